//! How much memory of the host a greedy guest takes. In a program of its own, so that nothing else counts.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "sandbox/generated.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod generated;
#[path = "sandbox/lab.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod lab;

use lab::{Lab, guest, output};
use tokio::sync::Mutex;
use worldcompute_sandbox::Status;

const MIB: u64 = 1 << 20;

/// One at a time, so that each counts its own.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A line of `/proc/self/status`, in bytes.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// Makes the most memory ever in use what is in use now (proc(5), `clear_refs`).
fn forget_peak() {
    let mut file = std::fs::File::options()
        .write(true)
        .open("/proc/self/clear_refs")
        .unwrap();
    std::io::Write::write_all(&mut file, b"5").unwrap();
}

/// How far the most memory ever in use rises above what is in use now, while the guests run.
async fn peak_of(lab: &Lab, guest: String, expected: Status) -> u64 {
    let mut request = lab.request(guest);
    request.limits.memory_bytes = 64 * MIB;
    request.limits.output_bytes = 8 * MIB;
    request.outputs = vec![output("/out/result", 1 << 30)];
    forget_peak();
    let before = status("VmRSS");
    for _ in 0..3 {
        assert_eq!(lab.run(&request).await.status, expected);
    }
    status("VmHWM").saturating_sub(before)
}

#[tokio::test]
async fn a_greedy_guest_takes_no_more_of_the_host_than_its_limits() {
    let _alone = ALONE.lock().await;
    let lab = Lab::new();
    let printer = guest!("print_for_ever").replace("FD", "1");
    // The compiler's own memory is not the guests'.
    for guest in [
        &guest!("grow_8_gib_at_once"),
        &printer,
        &guest!("write_far_away"),
        &guest!("fill_scratch"),
        &guest!("grow_and_touch"),
        &guest!("name_of_56_mib"),
    ] {
        lab.run_guest(guest).await;
    }
    let at_once = peak_of(&lab, guest!("grow_8_gib_at_once"), Status::OutOfMemory).await;
    let stdout = peak_of(&lab, printer, Status::OutputLimit).await;
    let far_away = peak_of(&lab, guest!("write_far_away"), Status::OutputLimit).await;
    let scratch = peak_of(&lab, guest!("fill_scratch"), Status::OutputLimit).await;
    let touched = peak_of(&lab, guest!("grow_and_touch"), Status::OutOfMemory).await;
    let named = peak_of(&lab, guest!("name_of_56_mib"), Status::Failed).await;
    println!(
        "at once {at_once}, stdout {stdout}, far away {far_away}, scratch {scratch}, touched {touched}, named {named}"
    );
    assert!(at_once < 8 * MIB, "{at_once}");
    assert!(far_away < 8 * MIB, "{far_away}");
    assert!(stdout < (8 + 16) * MIB, "{stdout}");
    assert!(scratch < (8 + 16) * MIB, "{scratch}");
    assert!((60 * MIB..(64 + 16) * MIB).contains(&touched), "{touched}");
    assert!((50 * MIB..(64 + 16) * MIB).contains(&named), "{named}");
}

#[tokio::test]
async fn a_guest_that_nobody_wrote_takes_no_more_of_the_host_than_its_limits() {
    let _alone = ALONE.lock().await;
    let lab = Lab::new();
    let mut most = (0, 0);
    for seed in 0..60 {
        let mut request = lab.request(generated::command(seed));
        request.limits.memory_bytes = 3 * MIB;
        request.limits.fuel = 0;
        // The compiler's own memory is not the guest's.
        lab.run(&request).await;
        request.limits.fuel = 200_000;
        forget_peak();
        let before = status("VmRSS");
        lab.run(&request).await;
        most = most.max((status("VmHWM").saturating_sub(before), seed));
    }
    println!("seeds 0..60: {} at most, by seed {}", most.0, most.1);
    assert!(most.0 < (3 + 8) * MIB, "{most:?}");
}
