//! The demo as a newcomer meets it, also one who interrupts it or pulls a plug.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{json, text, until, worldcompute};

/// The picture in the README. How many tiles it is cut into changes nothing in it.
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mandelbrot.png");

/// A demo with a directory for all that it may leave behind.
struct Demo {
    root: tempfile::TempDir,
    child: Child,
}

impl Demo {
    fn start(tiles: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        let child = worldcompute(&root.path().join("home"))
            .args(["demo", "--json", "--tiles", &tiles.to_string(), "--out"])
            .arg(root.path().join("out"))
            .env("TMPDIR", root.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { root, child }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Ends, and gives what it printed.
    fn end(self) -> (Option<i32>, String, String, tempfile::TempDir) {
        let output = self.child.wait_with_output().unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
            self.root,
        )
    }

    /// The processes of its cluster: every one names its home on its command line.
    fn nodes(&self) -> Vec<(u32, String)> {
        nodes_below(&self.root.path().join("tmp"))
    }

    fn until_nodes(&self, count: usize) {
        until("the nodes run", || self.nodes().len() >= count);
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn nodes_below(directory: &Path) -> Vec<(u32, String)> {
    let directory = directory.display().to_string();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    processes
        .filter_map(|pid| {
            Some((
                pid,
                fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?,
            ))
        })
        .filter(|(_, line)| line.contains(&directory) && line.contains("--end-with-stdin"))
        .collect()
}

/// What a picture shows: how it is compressed depends on what else is compiled in.
fn pixels(path: &str) -> (png::OutputInfo, Vec<u8>) {
    let file = BufReader::new(File::open(path).unwrap());
    let mut picture = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
    let shape = picture.next_frame(&mut pixels).unwrap();
    (shape, pixels)
}

fn assert_nothing_left(root: &Path) {
    until("no node is left", || {
        nodes_below(&root.join("tmp")).is_empty()
    });
    let left: Vec<_> = fs::read_dir(root.join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_draws_one_picture_whose_evidence_verifies_and_leaves_nothing_running() {
    let (code, stdout, stderr, root) = Demo::start(6).end();
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["tiles"], 6);
    assert_eq!(
        report["executors"].as_object().unwrap().len(),
        2,
        "{report}"
    );
    assert!(
        pixels(report["picture"].as_str().unwrap()) == pixels(PICTURE),
        "another picture than {PICTURE}"
    );
    assert_eq!(
        json(
            root.path(),
            &["verify", report["evidence"].as_str().unwrap()]
        )["ok"],
        true
    );
    assert_nothing_left(root.path());
    println!(
        "first verified result after {} ms",
        report["first_result_ms"]
    );
}

#[test]
fn interrupted_at_any_moment_it_leaves_no_process_and_no_directory() {
    for (nodes, name) in [(0, "INT"), (1, "TERM"), (2, "INT"), (3, "INT"), (3, "HUP")] {
        let demo = Demo::start(64);
        until("its directory is there", || {
            fs::read_dir(demo.root.path().join("tmp")).unwrap().count() > 0
        });
        demo.until_nodes(nodes);
        demo.signal(name);
        let (code, stdout, stderr, root) = demo.end();
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert!(stdout.is_empty(), "{stdout}");
        assert_nothing_left(root.path());
        assert!(
            !root.path().join("out").exists(),
            "an empty directory tells nothing"
        );
    }
}

#[test]
fn a_node_can_be_made_where_a_demo_was_the_first_to_write() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    let report = json(&home, &["demo", "--tiles", "2"]);
    assert!(
        report["picture"]
            .as_str()
            .unwrap()
            .starts_with(home.to_str().unwrap())
    );
    json(&home, &["donor", "enroll"]);
}

#[test]
fn killed_outright_it_leaves_no_process() {
    let demo = Demo::start(64);
    demo.until_nodes(3);
    demo.signal("KILL");
    let (.., root) = demo.end();
    until("no node is left", || {
        nodes_below(&root.path().join("tmp")).is_empty()
    });
}

#[test]
fn a_donor_killed_in_the_middle_costs_no_tile() {
    let demo = Demo::start(32);
    let donor = |name: &str| {
        demo.nodes()
            .into_iter()
            .find(|(_, line)| line.contains(name))
            .map(|(pid, _)| pid)
    };
    until("a donor is there", || donor("donor-a").is_some());
    let (victim, home) = (donor("donor-a").unwrap(), demo.root.path().join("tmp"));
    let home = fs::read_dir(home)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("donor-a");
    until("the donor works", || {
        let status = support::run(&home, &["donor", "status", "--json"]);
        serde_json::from_slice::<Value>(&status.stdout)
            .is_ok_and(|status| status["running"].as_u64() > Some(0))
    });
    signal(victim, "KILL");
    let (code, stdout, stderr, root) = demo.end();
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["tiles"], 32);
    assert!(report["redispatched"].as_u64() >= Some(1), "{report}");
    assert_eq!(
        json(
            root.path(),
            &["verify", report["evidence"].as_str().unwrap()]
        )["ok"],
        true
    );
    assert_nothing_left(root.path());
}
