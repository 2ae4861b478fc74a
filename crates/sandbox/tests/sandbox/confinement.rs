//! Guests that reach for what is not theirs.

use worldcompute_sandbox::Status;

use crate::lab::{Lab, guest, mount, output, text};

/// The errnos of opening a path for reading and for writing, and what was read.
async fn probe(path: &str) -> String {
    let lab = Lab::new();
    let mut request = lab.request(guest!("probe"));
    request.args.push(path.to_owned());
    request.inputs = vec![mount(lab.put("input"), "/in/data")];
    let outcome = lab.run(&request).await;
    assert_eq!(outcome.status, Status::Succeeded);
    text(&outcome.stdout).to_owned()
}

#[tokio::test]
async fn no_file_of_the_host_is_there() {
    for path in [
        "etc/passwd",
        "proc/self/environ",
        "dev/null",
        "tmp/x",
        "usr/../etc/passwd",
        "sys/kernel",
    ] {
        // ENOENT for either.
        assert_eq!(probe(path).await, "44 44 ", "{path}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_root() {
    for path in [
        "/etc/passwd",
        "/",
        "..",
        "../etc/passwd",
        "in/../../etc/passwd",
        "./../x",
        "out/.././../x",
    ] {
        // EPERM for either.
        assert_eq!(probe(path).await, "63 63 ", "{path}");
    }
}

#[tokio::test]
async fn paths_may_wander_below_the_root() {
    for path in [
        "in/data",
        "./in/./data",
        "in//data",
        "in/../in/data",
        "out/../in/data",
    ] {
        assert_eq!(probe(path).await, "0 69 input", "{path}");
    }
}

#[tokio::test]
async fn only_out_can_be_written_to() {
    assert_eq!(probe("out/new").await, "44 0 ");
    for path in ["new", "in/new", "in/data2"] {
        // Not there, and not to be made: EROFS.
        assert_eq!(probe(path).await, "44 69 ", "{path}");
    }
}

#[tokio::test]
async fn a_marker_in_tmp_is_not_left_behind() {
    let marker = format!("/tmp/worldcompute-marker-{}", std::process::id());
    probe(&marker).await;
    probe(marker.trim_start_matches('/')).await;
    assert!(!std::path::Path::new(&marker).exists());
}

#[tokio::test]
async fn there_is_one_preopened_directory() {
    let outcome = Lab::new().run_guest(guest!("preopens")).await;
    assert_eq!(text(&outcome.stdout), "8 8 8 0 8 8 8 8 8 8 ");
}

#[tokio::test]
async fn an_output_cannot_be_made_another_name_for_anything() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("link_output"));
    request.outputs = vec![output("/out/result", 1 << 20)];
    let outcome = lab.run(&request).await;
    // Links are not supported; what is to be renamed lies outside.
    assert_eq!(text(&outcome.stdout), "58 58 58 63 ");
    assert_eq!(outcome.status, Status::Failed);
    assert!(outcome.outputs.is_empty());
}

#[tokio::test]
async fn nothing_is_a_socket() {
    let outcome = Lab::new().run_guest(guest!("sockets")).await;
    assert_eq!(text(&outcome.stdout), "57 57 57 57 8 ");
}

#[tokio::test]
async fn an_input_cannot_be_changed_for_the_next_guest() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("probe"));
    request.args.push("in/data".to_owned());
    request.inputs = vec![mount(lab.put("input"), "/in/data")];
    let (first, second) = (lab.run(&request).await, lab.run(&request).await);
    assert_eq!(first.stdout, second.stdout);
}

#[tokio::test]
async fn nothing_of_one_run_is_left_for_the_next() {
    let lab = Lab::new();
    let write = lab.run_guest(guest!("write_output")).await;
    assert_eq!(write.status, Status::Succeeded);
    let mut request = lab.request(guest!("probe"));
    request.args.push("out/result".to_owned());
    assert_eq!(text(&lab.run(&request).await.stdout), "44 0 ");
}
