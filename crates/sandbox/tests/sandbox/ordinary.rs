//! Guests that do what they should.

use worldcompute_sandbox::Status;

use crate::lab::{Lab, guest, mount, output, text};

#[tokio::test]
async fn a_guest_that_does_nothing_succeeds() {
    let outcome = Lab::new().run_guest(guest!("empty")).await;
    assert_eq!(outcome.status, Status::Succeeded);
    assert_eq!(outcome.exit_code, Some(0));
    assert_eq!(
        (outcome.stdout, outcome.stderr, outcome.outputs),
        (vec![], vec![], vec![])
    );
    assert_eq!(outcome.error, None);
}

#[tokio::test]
async fn what_a_guest_prints_comes_back_stream_by_stream() {
    let outcome = Lab::new().run_guest(guest!("hello")).await;
    assert_eq!(text(&outcome.stdout), "hello, world\n");
    assert_eq!(text(&outcome.stderr), "to err\n");
    assert!(outcome.fuel_used > 0);
}

#[tokio::test]
async fn a_binary_module_runs_as_its_text_does() {
    let lab = Lab::new();
    let binary = wat::parse_str(guest!("hello")).unwrap();
    let (from_text, from_binary) = (
        lab.run_guest(guest!("hello")).await,
        lab.run_guest(binary).await,
    );
    assert_eq!(from_text.stdout, from_binary.stdout);
    assert_eq!(from_text.fuel_used, from_binary.fuel_used);
}

#[tokio::test]
async fn standard_input_is_read_to_its_end() {
    let lab = Lab::new();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let mut request = lab.request(guest!("cat"));
    request.stdin = Some(lab.put(&bytes));
    assert_eq!(lab.run(&request).await.stdout, bytes);
}

#[tokio::test]
async fn without_standard_input_there_is_nothing_to_read() {
    let outcome = Lab::new().run_guest(guest!("cat")).await;
    assert_eq!(
        (outcome.status, outcome.stdout),
        (Status::Succeeded, vec![])
    );
}

#[tokio::test]
async fn arguments_and_environment_reach_the_guest_and_nothing_else_does() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("arguments"));
    request.args = vec!["render".to_owned(), String::new(), "tile 7".to_owned()];
    request.env = [("LANG", "C"), ("EMPTY", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let outcome = lab.run(&request).await;
    assert_eq!(text(&outcome.stdout), "render\0\0tile 7\0EMPTY=\0LANG=C\0");
}

#[tokio::test]
async fn an_input_is_read_at_its_path() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("probe"));
    request.args.push("data/deep/input.csv".to_owned());
    request.inputs = vec![mount(lab.put("1,2,3"), "/data/deep/input.csv")];
    let outcome = lab.run(&request).await;
    assert_eq!(text(&outcome.stdout), "0 69 1,2,3");
}

#[tokio::test]
async fn a_declared_output_is_collected() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("write_output"));
    request.outputs = vec![output("/out/result", 1000)];
    let outcome = lab.run(&request).await;
    assert_eq!(outcome.status, Status::Succeeded);
    assert_eq!(outcome.outputs.len(), 1);
    assert_eq!(
        (
            outcome.outputs[0].name.as_str(),
            outcome.outputs[0].bytes.len()
        ),
        ("result", 1000)
    );
}

#[tokio::test]
async fn only_exit_code_0_is_success() {
    let lab = Lab::new();
    for (code, status) in [
        (0, Status::Succeeded),
        (1, Status::Failed),
        (3, Status::Failed),
        (255, Status::Failed),
        (256, Status::Failed),
        (i32::MIN, Status::Failed),
    ] {
        let outcome = lab
            .run_guest(guest!("exit").replace("CODE", &code.to_string()))
            .await;
        assert_eq!((outcome.status, outcome.exit_code), (status, Some(code)));
        assert_eq!(outcome.error.is_some(), status == Status::Failed);
    }
}

#[tokio::test]
async fn a_missing_output_is_a_failure_whatever_the_exit_code() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("empty"));
    request.outputs = vec![output("/out/result", 10)];
    let outcome = lab.run(&request).await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (Status::Failed, Some(0))
    );
    assert!(outcome.error.unwrap().contains("/out/result"));
}

#[tokio::test]
async fn no_output_of_a_guest_that_failed_is_passed_on() {
    let lab = Lab::new();
    let guest = guest!("write_output").replace(
        "(i32.const 1000))))",
        "(i32.const 1000))) (call $proc_exit (i32.const 1)))",
    );
    let mut request = lab.request(guest);
    request.outputs = vec![output("/out/result", 1000)];
    let outcome = lab.run(&request).await;
    assert_eq!((outcome.status, outcome.outputs), (Status::Failed, vec![]));
}

#[tokio::test]
async fn a_directory_is_no_output() {
    let lab = Lab::new();
    let mut request = lab.request(guest!("output_is_a_directory"));
    request.outputs = vec![output("/out/result", 10)];
    assert_eq!(lab.run(&request).await.status, Status::Failed);
}
