//! What some guests come to, to the unit of fuel and to the byte, on every machine and in every build.
//!
//! Receipts are confirmed by running their tasks again, so that two donors, a debug and a release build, and this version
//! and the next one have to agree on all of this. Where an update of the engine changes a figure, receipts from before it
//! are no longer confirmed by the program after it: that is a change of what `deterministic` means, which the changelog
//! has to tell, and no figure to be adjusted in passing.

use worldcompute_proof::Sha256;
use worldcompute_sandbox::{Outcome, RunRequest, Status};

use crate::lab::{Lab, guest, output};
use crate::programs::posix;

/// Name, status, exit code, fuel, and the digest of all that it left.
type Figure = (&'static str, Status, Option<i32>, u64, &'static str);

const FIGURES: [Figure; 18] = [
    (
        "arguments",
        Status::Succeeded,
        Some(0),
        441,
        "d052afa00e03df716b5499d8584969efbfa010d26df94dda36e531b259cb079a",
    ),
    (
        "cat",
        Status::Succeeded,
        Some(0),
        351,
        "49e3f8e6afa574f2518a95814fab3c7d719eb1756f61c02ec3be7437124585b0",
    ),
    (
        "component",
        Status::Succeeded,
        Some(0),
        877,
        "71b91f88903a2d7e829f52a52bc8304b40387eef3200a724cdcdd4af0bbb13cf",
    ),
    (
        "exit 3",
        Status::Failed,
        Some(3),
        3,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "fill_scratch",
        Status::OutputLimit,
        None,
        271_930,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "grow_and_touch",
        Status::OutOfMemory,
        None,
        16_715_258,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "grow_table",
        Status::OutOfMemory,
        None,
        3_000_021,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "hello",
        Status::Succeeded,
        Some(0),
        168,
        "9b4b90adcbb3e3344a6cd0616bcf08f401f140abf9dca373c7e97acb1a260e1e",
    ),
    (
        "mandelbrot",
        Status::Succeeded,
        Some(0),
        458_729_082,
        "8e6abc82a7769074d26952d3aa78a0a8d56a017faed6dfbf518ce7a031aa3f65",
    ),
    (
        "out_of_bounds",
        Status::Trapped,
        None,
        0,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "posix",
        Status::Failed,
        Some(7),
        5_094_509,
        "e51416895ddb34a9e88154a13c745755eddf3c7f78d15c6353c3611ee5992c10",
    ),
    (
        "posix component",
        Status::Failed,
        Some(1),
        5_517_715,
        "e51416895ddb34a9e88154a13c745755eddf3c7f78d15c6353c3611ee5992c10",
    ),
    (
        "preopens",
        Status::Succeeded,
        Some(0),
        1_931,
        "858eafd9f6d555d0314c921540e419e3d24d8c3f850a9102ec907bd29690f588",
    ),
    (
        "print_for_ever",
        Status::OutputLimit,
        None,
        206_198,
        "ee236b6f5bdd945faab3663a6678998827464fa6e3d3b5eb18bc21db0a50ef18",
    ),
    (
        "senses",
        Status::Succeeded,
        Some(0),
        884,
        "0fb0412945c55fa352004093edd91c57b1156dfb2a63dd39de28b8c565be955c",
    ),
    (
        "sleep_an_hour",
        Status::Succeeded,
        Some(0),
        810,
        "951ec79d83605b2a94ec7f719dab79ffd2924dacd42ee30539650732a834c26d",
    ),
    (
        "spin",
        Status::OutOfFuel,
        None,
        1_000_000,
        "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
    ),
    (
        "write_output",
        Status::Succeeded,
        Some(0),
        720,
        "446b74275f96c2de13eada9fc797c0b0a1e32e92ff25c945f8540a6cb59345a0",
    ),
];

/// What is run, by its name in the table.
fn requests(lab: &Lab) -> Vec<(&'static str, RunRequest)> {
    let component = include_bytes!("../fixtures/posix.component.wasm");
    let mut cat = lab.request(guest!("cat"));
    cat.stdin = Some(lab.put("what comes in"));
    let mut spin = lab.request(guest!("spin"));
    spin.limits.fuel = 1_000_000;
    let mut write_output = lab.request(guest!("write_output"));
    write_output.outputs = vec![output("/out/result", 1000)];
    let prints = guest!("print_for_ever").replace("FD", "1");
    vec![
        ("arguments", lab.request(guest!("arguments"))),
        ("cat", cat),
        ("component", lab.request(guest!("component"))),
        ("exit 3", lab.request(guest!("exit").replace("CODE", "3"))),
        ("fill_scratch", lab.request(guest!("fill_scratch"))),
        ("grow_and_touch", lab.request(guest!("grow_and_touch"))),
        ("grow_table", lab.request(guest!("grow_table"))),
        ("hello", lab.request(guest!("hello"))),
        (
            "mandelbrot",
            lab.request(include_str!("../../benches/mandelbrot.wat")),
        ),
        ("out_of_bounds", lab.request(guest!("out_of_bounds"))),
        (
            "posix",
            posix(lab, include_bytes!("../fixtures/posix.wasm")),
        ),
        ("posix component", posix(lab, component)),
        ("preopens", lab.request(guest!("preopens"))),
        ("print_for_ever", lab.request(prints)),
        ("senses", lab.request(guest!("senses"))),
        ("sleep_an_hour", lab.request(guest!("sleep_an_hour"))),
        ("spin", spin),
        ("write_output", write_output),
    ]
}

/// Of everything that it left, each part after its length.
fn digest(outcome: &Outcome) -> String {
    let files = outcome.outputs.iter();
    let files = files.flat_map(|file| [file.name.as_bytes(), &file.bytes]);
    let parts = [&outcome.stdout[..], &outcome.stderr]
        .into_iter()
        .chain(files);
    let parts = parts.map(|part| [&(part.len() as u64).to_be_bytes(), part].concat());
    Sha256::of(parts.collect::<Vec<_>>().concat()).to_string()
}

#[tokio::test]
async fn every_build_comes_to_the_same_figures() {
    let lab = Lab::new();
    let mut figures = Vec::new();
    for (name, request) in requests(&lab) {
        let outcome = lab.run(&request).await;
        figures.push((
            name,
            outcome.status,
            outcome.exit_code,
            outcome.fuel_used,
            digest(&outcome),
        ));
    }
    let expected = FIGURES
        .map(|(name, status, code, fuel, digest)| (name, status, code, fuel, digest.to_owned()));
    assert_eq!(figures, expected, "{figures:#?}");
}
