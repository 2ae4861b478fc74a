//! A real program, built by a real toolchain on its own C library: the source is `tests/fixtures/posix.c`.

use worldcompute_sandbox::{Outcome, RunRequest, Status};

use crate::lab::{Lab, mount, output, text};

/// What the program expects.
pub fn posix(lab: &Lab, program: &[u8]) -> RunRequest {
    let mut request = lab.request(program);
    request.args = ["posix", "one two", ""].map(str::to_owned).into();
    request.env = [("COLOUR".to_owned(), "blue".to_owned())].into();
    request.stdin = Some(lab.put("first line\nlast"));
    request.inputs = vec![mount(lab.put("0123456789"), "/in/data")];
    request.outputs = vec![output("/out/result", 100)];
    request
}

fn assert_content(outcome: &Outcome, held: &str) {
    println!(
        "{:?} {:?} {} {}",
        outcome.status, outcome.error, outcome.fuel_used, outcome.wall_ms
    );
    assert_eq!(
        text(&outcome.stdout),
        format!("{held} held, 3.142 No such file or directory\n")
    );
    assert_eq!(text(&outcome.stderr), "to stderr\n");
}

#[tokio::test]
async fn a_posix_program_finds_what_it_expects() {
    let lab = Lab::new();
    let outcome = lab
        .run(&posix(&lab, include_bytes!("../fixtures/posix.wasm")))
        .await;
    assert_content(&outcome, "79");
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (Status::Failed, Some(7))
    );
    println!("fuel {} in {} ms", outcome.fuel_used, outcome.wall_ms);
}

#[tokio::test]
async fn the_same_program_as_a_component_finds_the_same() {
    let lab = Lab::new();
    let outcome = lab
        .run(&posix(
            &lab,
            include_bytes!("../fixtures/posix.component.wasm"),
        ))
        .await;
    assert_content(&outcome, "79");
    // All that `wasi:cli/run` can say is that it failed.
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (Status::Failed, Some(1))
    );
}
