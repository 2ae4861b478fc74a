//! One job of many tasks.

use worldcompute_fault::Result;

use crate::cluster::Cluster;
use crate::figures::ms;
use crate::process;
use crate::spans::Spans;

const TASKS: u32 = 1_000;

/// Prints how many tasks a second are done, what they cost, and where the time goes.
pub async fn run(cluster: &Cluster, spans: &Spans) -> Result<()> {
    let manifest = cluster.job(TASKS).await?;
    spans.clear();
    let before = process::cpu("self");
    let course = cluster.run(manifest).await?;
    let after = process::cpu("self");
    let took = course.settled - course.submitted;
    println!("\narray: one job of {TASKS} tasks over two donors, all nodes in this process");
    println!(
        "  {:.2} s to the last receipt stored: {:.0} tasks/s; evidence {:.2} s later",
        took.as_secs_f64(),
        f64::from(TASKS) / took.as_secs_f64(),
        (course.ended - course.settled).as_secs_f64()
    );
    match before.zip(after) {
        Some((before, after)) => println!(
            "  {:.2} ms of processor time a task, for relay, donors, submitter and evidence together",
            ms(after - before) / f64::from(TASKS)
        ),
        None => println!("  processor time: skipped, there is no /proc"),
    }
    spans.print(TASKS);
    Ok(())
}
