use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::Value;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::{Cid, SigningKey, canonical_cbor, from_canonical_cbor};
use worldcompute_sandbox::Profile;

use super::*;
use crate::JobId;

const MINIMAL: &str = "
apiVersion: worldcompute/v1
kind: Job
metadata: {name: hello}
spec:
  wasm: hello.wasm
";

fn cid() -> Cid {
    Cid::raw(b"module")
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn job() -> JobId {
    JobId::from_parts(1_700_000_000_000, 42)
}

/// The minimal document with more lines under `spec`.
fn with(lines: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("{MINIMAL}{indented}")
}

fn parse(document: impl AsRef<[u8]>) -> Result<Manifest<Source>> {
    Manifest::parse(document.as_ref())
}

fn number(result: Result<Manifest<Source>>) -> Option<WcCode> {
    result.unwrap_err().number()
}

fn resolved(document: &str) -> Manifest {
    parse(document).unwrap().resolve(|_| Ok(cid())).unwrap()
}

fn full() -> Manifest {
    resolved(&with(&format!(
        "command: [hello, \"--part\", \"${{WC_TASK_INDEX}}/${{WC_TASK_COUNT}}\"]
env: {{PART: \"n${{WC_TASK_INDEX}}\", OTHER: \"${{HOME}}\"}}
stdin: cid:{cid}
inputs: [{{cid: {cid}, mount: /data/in.txt}}, {{file: b.txt, mount: /data/b}}]
outputs: [{{name: result, path: /out/result.txt, max_bytes: 1Mi}}]
resources: {{cpu: 500m, memory: 64Mi, gpu: 0, scratch: 2Mi, network_egress: 0, fuel: 1000000}}
array: {{count: 12}}
seed: 99
replica_count: 1
verification: hash-quorum
preempt_class: yieldable
max_wall_time: 2s
confidentiality: public
min_trust_tier: T0
acceptable_use_classes: [scientific, rendering]
allowed_endpoints: []
deadline: 2030-01-01T00:00:00Z
locality_hint: any",
        cid = cid()
    )))
}

#[test]
fn the_smallest_document_gets_the_documented_defaults() {
    let manifest = parse(MINIMAL).unwrap();
    assert_eq!(manifest.workload_cid, Source::File("hello.wasm".into()));
    assert_eq!(manifest.command, ["hello"]);
    assert_eq!(manifest.array_count, 1);
    assert_eq!(manifest.replica_count, 1);
    assert_eq!(manifest.acceptable_use_classes, ["general"]);
    assert_eq!(manifest.max_wallclock_ms, 300_000);
    assert_eq!(manifest.resources.ram_bytes, 256 << 20);
}

#[test]
fn every_field_of_the_document_arrives() {
    let manifest = full();
    assert_eq!(manifest.resources.cpu_millicores, 500);
    assert_eq!(manifest.resources.ram_bytes, 64 << 20);
    assert_eq!(manifest.resources.fuel, 1_000_000);
    assert_eq!(manifest.resources.scratch_bytes, 2 << 20);
    assert_eq!(manifest.outputs[0].max_bytes, 1 << 20);
    assert_eq!(manifest.inputs.len(), 2);
    assert_eq!(manifest.stdin, Some(cid()));
    assert_eq!(manifest.array_count, 12);
    assert_eq!(manifest.max_wallclock_ms, 2_000);
    assert_eq!(
        manifest.deadline.unwrap().to_string(),
        "2030-01-01T00:00:00Z"
    );
}

#[test]
fn the_example_of_the_documentation_is_a_manifest() {
    let page = include_str!("../../../../docs/manifest.md");
    let (_, example) = page.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let manifest = parse(example).unwrap();
    assert_eq!(manifest.array_count, 100);
    assert_eq!(manifest.outputs[0].max_bytes, 1 << 20);
}

#[test]
fn json_and_yaml_of_the_same_job_are_the_same_manifest() {
    let json = r#"{ "apiVersion": "worldcompute/v1", "kind": "Job",
	"metadata": {"name": "hello"}, "spec": {"wasm": "hello.wasm", "env": {"A": "\u00e9\/"}} }"#;
    assert_eq!(
        parse(json).unwrap(),
        parse(with("env: {A: \"é/\"}")).unwrap()
    );
}

#[test]
fn images_name_their_kind() {
    let wasm = MINIMAL.replace("wasm: hello.wasm", &format!("image: wasm+cid:{}", cid()));
    assert_eq!(parse(wasm).unwrap().workload_cid, Source::Cid(cid()));
    assert_eq!(
        parse(of_image("")).unwrap().workload_type,
        WorkloadType::OciContainer
    );
    assert_eq!(
        number(parse(with("image: nginx"))),
        Some(WcCode::InvalidManifest)
    );
    assert_eq!(
        number(parse(MINIMAL.replace("wasm: hello.wasm", "seed: 1"))),
        Some(WcCode::InvalidManifest)
    );
}

/// The smallest manifest of an image, with these lines in its `spec`.
fn of_image(lines: &str) -> String {
    with(lines).replace("wasm: hello.wasm", &format!("image: oci+cid:{}", cid()))
}

#[test]
fn an_image_runs_what_it_says_itself_in_a_machine_of_its_own() {
    let manifest = parse(of_image("resources: {cpu: 1500m}")).unwrap();
    assert!(manifest.command.is_empty());
    assert_eq!(manifest.resources.fuel, 0);
    assert_eq!(manifest.resources.scratch_bytes, 256 << 20);
    let manifest = manifest.resolve(|_| unreachable!()).unwrap();
    let run = manifest.sign(&key()).unwrap().task(0).unwrap();
    assert_eq!(run.profile, Profile::MicroVm { vcpus: 2 });
    assert!(run.args.is_empty());
    run.check().unwrap();
}

#[test]
fn what_a_machine_cannot_be_held_to_is_refused_by_field() {
    let cases = [
        ("resources: {fuel: 1}", "resources.fuel"),
        ("resources: {memory: 159Mi}", "resources.memory"),
        ("resources: {memory: 257Gi}", "resources.memory"),
        ("resources: {cpu: 65}", "resources.cpu"),
        ("resources: {scratch: 1023Ki}", "resources.scratch"),
        ("command: [\"\"]", "command"),
        (
            "inputs: [{file: a, mount: /.worldcompute/stdin}]",
            "inputs.mount",
        ),
        ("inputs: [{file: a, mount: /.worldcompute}]", "inputs.mount"),
    ];
    for (lines, field) in cases {
        let fault = parse(of_image(lines)).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest), "{lines}");
        assert!(fault.message().starts_with(field), "{fault}");
    }
    let seeded = parse(of_image("seed: 1")).unwrap_err();
    assert_eq!(seeded.number(), Some(WcCode::UnsupportedPlatform));
    parse(of_image(
        "resources: {memory: 160Mi, cpu: 64, scratch: 1Mi}",
    ))
    .unwrap();
}

#[test]
fn ambiguous_and_malformed_documents_are_refused_with_line_or_field() {
    let cases = [
        ("not yaml: [", "line"),
        ("", "line"),
        ("[]", "line"),
        (&with("colour: red"), "colour"),
        (&with("seed: 1\nseed: 2"), "seed"),
        (&with("env: {A: \"1\", A: \"2\"}"), "line 7"),
        (&with("env: {A: 1}"), "line 7"),
        (&with("env: {A: true}"), "line 7"),
        (&with("command: run"), "line 7"),
        (&with("seed: \"12\""), "line 7"),
        (&with("seed: 1_000"), "line 7"),
        (&with("array: {count: \"3\"}"), "line 7"),
        (&with("seed: -1"), "line 7"),
        (&with("seed: 1.5"), "line 7"),
        (&with("array: {count: 3, size: 4}"), "size"),
        (&with("array: 3"), "line 7"),
        (&with("command: &a [x]\nenv: *a"), "line"),
        (&with("env: {<<: {A: \"1\"}}"), "line"),
        (&with("command: !!python/object [x]"), "line"),
        (&format!("{MINIMAL}---\n{MINIMAL}"), "document"),
        (&MINIMAL.replace("kind: Job", "kind: Pod"), "kind"),
        (
            &MINIMAL.replace("worldcompute/v1", "worldcompute/v2"),
            "apiVersion",
        ),
        (&with("resources: {memory: 64MB}"), "spec.resources.memory"),
        (&with("resources: {cpu: 1.5}"), "line 7"),
        (&with("resources: {disk: 1Gi}"), "disk"),
        (&with("max_wall_time: 60"), "spec.max_wall_time"),
        (&with("deadline: tomorrow"), "line 7"),
        (&with("stdin: cid:nope"), "spec.stdin"),
        (&with("stdin: \"\""), "spec.stdin"),
        (&with("inputs: [{mount: /a}]"), "spec.inputs"),
        (&with("confidentiality: secret"), "line 7"),
        (&with("min_trust_tier: T9"), "line 7"),
        ("{\"apiVersion\": \"worldcompute/v1\"", "line"),
    ];
    for (document, names) in cases {
        let fault = parse(document).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest), "{document}");
        assert!(
            fault.message().contains(names),
            "{document}\n-> {}",
            fault.message()
        );
        assert!(fault.message().len() < 1_000, "{}", fault.message());
    }
}

#[test]
fn a_message_quotes_a_long_value_only_in_part() {
    let long = "é".repeat(2_000);
    for line in [
        format!("resources: {{memory: {long}}}"),
        format!("confidentiality: {long}"),
        format!("acceptable_use_classes: [{long}]"),
        format!("env: {{{}: x}}", &long[..1_000]),
        format!("wasm: {long}\nimage: {long}"),
    ] {
        let fault = parse(with(&line)).unwrap_err();
        assert!(fault.message().len() < 1_000, "{}", fault.message().len());
    }
}

/// Each value at the bound is taken, and the one past it is refused by its field.
fn check_bounds(cases: &[(&str, String, String)]) {
    for (field, taken, refused) in cases {
        let at = parse(with(taken));
        assert!(at.is_ok(), "{taken:.80}: {:?}", at.err());
        let fault = parse(with(refused)).unwrap_err();
        assert_eq!(
            fault.number(),
            Some(WcCode::InvalidManifest),
            "{refused:.80}"
        );
        assert!(
            fault.message().contains(field),
            "{field}: {}",
            fault.message()
        );
    }
}

#[test]
fn numbers_are_taken_at_their_bounds_and_refused_past_them() {
    let cases = [
        (
            "array.count",
            "array: {count: 10000}",
            "array: {count: 10001}",
        ),
        ("array.count", "array: {count: 1}", "array: {count: 0}"),
        ("max_wall_time", "max_wall_time: 1s", "max_wall_time: 999ms"),
        ("max_wall_time", "max_wall_time: 7d", "max_wall_time: 169h"),
        (
            "memory",
            "resources: {memory: 4Gi}",
            "resources: {memory: 4194305Ki}",
        ),
        (
            "memory",
            "resources: {memory: 64Ki}",
            "resources: {memory: 65535}",
        ),
        ("cpu", "resources: {cpu: 1m}", "resources: {cpu: 0}"),
        ("cpu", "resources: {cpu: 4096}", "resources: {cpu: 4097}"),
        (
            "fuel",
            "resources: {fuel: 9007199254740991}",
            "resources: {fuel: 9007199254740992}",
        ),
        ("fuel", "resources: {fuel: 1}", "resources: {fuel: 0}"),
        (
            "scratch",
            "resources: {scratch: 1Gi}",
            "resources: {scratch: 1048577Ki}",
        ),
        ("seed", "seed: 9007199254740991", "seed: 9007199254740992"),
        (
            "outputs",
            "outputs: [{name: a, path: /out/a, max_bytes: 1}]",
            "outputs: [{name: a, path: /out/a, max_bytes: 0}]",
        ),
    ];
    check_bounds(&cases.map(|(field, taken, refused)| (field, taken.into(), refused.into())));
}

#[test]
fn texts_and_lists_are_taken_at_their_bounds_and_refused_past_them() {
    let arguments = |count: usize| format!("command: [{}]", vec!["\"x\""; count].join(", "));
    let argument = |bytes: usize| format!("command: [{}]", "x".repeat(bytes));
    let variables = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("V{n}: \"\"")).collect();
        format!("env: {{{}}}", names.join(", "))
    };
    let inputs = |count: usize| {
        let files: Vec<_> = (0..count)
            .map(|n| format!("{{file: f, mount: /in/{n}}}"))
            .collect();
        format!("inputs: [{}]", files.join(", "))
    };
    let outputs = |count: usize| {
        let files: Vec<_> = (0..count)
            .map(|n| format!("{{name: o{n}, path: /out/{n}}}"))
            .collect();
        format!("outputs: [{}]", files.join(", "))
    };
    let path = |bytes: usize| {
        format!(
            "outputs: [{{name: a, path: /out/{}}}]",
            "p".repeat(bytes - 5)
        )
    };
    let name = |bytes: usize| format!("outputs: [{{name: {}, path: /out/a}}]", "n".repeat(bytes));
    check_bounds(&[
        (
            "command",
            arguments(MAX_COMMAND),
            arguments(MAX_COMMAND + 1),
        ),
        (
            "command",
            argument(MAX_TEXT_BYTES),
            argument(MAX_TEXT_BYTES + 1),
        ),
        ("env", variables(MAX_ENV), variables(MAX_ENV + 1)),
        ("inputs", inputs(MAX_INPUTS), inputs(MAX_INPUTS + 1)),
        ("outputs", outputs(MAX_OUTPUTS), outputs(MAX_OUTPUTS + 1)),
        ("outputs", path(MAX_PATH_BYTES), path(MAX_PATH_BYTES + 1)),
        ("outputs", name(MAX_NAME_BYTES), name(MAX_NAME_BYTES + 1)),
    ]);
}

#[test]
fn a_job_may_ask_for_as_many_results_as_evidence_can_hold_and_no_more() {
    let tasks = |count: u32, outputs: usize| {
        let files: Vec<_> = (0..outputs)
            .map(|n| format!("{{name: o{n}, path: /out/{n}}}"))
            .collect();
        format!("array: {{count: {count}}}\noutputs: [{}]", files.join(", "))
    };
    check_bounds(&[
        ("65538 files", tasks(10_000, 2), tasks(9_362, 3)),
        ("outputs", tasks(9_361, 3), tasks(10_000, 64)),
        ("outputs", tasks(963, 64), tasks(964, 64)),
    ]);
}

#[test]
fn empty_repeated_and_reserved_entries_are_refused() {
    let cases = [
        ("command", "command: [x]", "command: []"),
        ("command", "command: [x, \"\"]", "command: [\"\", x]"),
        ("command", "command: [\"a\\tb\"]", "command: [\"a\\0b\"]"),
        ("env", "env: {A_1: x}", "env: {1A: x}"),
        ("env", "env: {WC_TASK: x}", "env: {WC_TASK_INDEX: x}"),
        ("env", "env: {WC_COUNT: x}", "env: {WC_TASK_COUNT: x}"),
        (
            "acceptable_use_classes",
            "acceptable_use_classes: [general]",
            "acceptable_use_classes: []",
        ),
        (
            "acceptable_use_classes",
            "acceptable_use_classes: [general, rendering]",
            "acceptable_use_classes: [general, general]",
        ),
        (
            "outputs.name",
            "outputs: [{name: a, path: /out/a}, {name: b, path: /out/b}]",
            "outputs: [{name: a, path: /out/a}, {name: a, path: /out/b}]",
        ),
    ];
    check_bounds(&cases.map(|(field, taken, refused)| (field, taken.into(), refused.into())));
}

#[test]
fn a_document_past_its_size_is_refused_before_it_is_read() {
    let comment = |size: usize| format!("{MINIMAL}#{}", "x".repeat(size - MINIMAL.len() - 1));
    assert!(parse(comment(MAX_DOCUMENT_BYTES)).is_ok());
    assert_eq!(
        number(parse(comment(MAX_DOCUMENT_BYTES + 1))),
        Some(WcCode::InvalidManifest)
    );
}

#[test]
fn paths_that_overlap_or_leave_their_place_are_refused() {
    let input = |path: &str| with(&format!("inputs: [{{file: f, mount: {path}}}]"));
    let output = |path: &str| with(&format!("outputs: [{{name: a, path: {path}}}]"));
    let two = |a: &str, b: &str| {
        with(&format!(
            "inputs: [{{file: f, mount: {a}}}, {{file: f, mount: {b}}}]"
        ))
    };
    for path in [
        "data",
        "/",
        "/a/",
        "//a",
        "/a/../b",
        "/a/./b",
        "/out",
        "/out/x",
        "\"/a\\0b\"",
    ] {
        assert_eq!(
            number(parse(input(path))),
            Some(WcCode::InvalidManifest),
            "{path}"
        );
    }
    for path in ["/result", "/out", "/out/", "/out/../etc", "/output/a"] {
        assert_eq!(
            number(parse(output(path))),
            Some(WcCode::InvalidManifest),
            "{path}"
        );
    }
    for (a, b) in [
        ("/a", "/a"),
        ("/a", "/a/b"),
        ("/a/b", "/a"),
        ("/a/b/c", "/a"),
    ] {
        assert_eq!(
            number(parse(two(a, b))),
            Some(WcCode::InvalidManifest),
            "{a} {b}"
        );
    }
    assert!(parse(two("/a", "/ab")).is_ok());
    assert!(parse(two("/a-b/c", "/a")).is_ok());
}

#[test]
fn what_this_version_does_not_offer_has_its_own_code() {
    let cases = [
        ("replica_count: 3", WcCode::UnsupportedPlatform),
        ("verification: range-check", WcCode::UnsupportedPlatform),
        ("verification: tee-attestation", WcCode::TrustTierMismatch),
        ("min_trust_tier: T1", WcCode::TrustTierMismatch),
        (
            "confidentiality: confidential-medium",
            WcCode::TrustTierMismatch,
        ),
        (
            "confidentiality: ConfidentialHigh",
            WcCode::TrustTierMismatch,
        ),
        (
            "allowed_endpoints: [\"example.org:443\"]",
            WcCode::UnsupportedPlatform,
        ),
        (
            "resources: {network_egress: 1}",
            WcCode::UnsupportedPlatform,
        ),
        ("resources: {gpu: 1}", WcCode::UnsupportedPlatform),
        ("checkpoint_interval_s: 60", WcCode::UnsupportedPlatform),
        ("preempt_class: never", WcCode::UnsupportedPlatform),
        ("locality_hint: eu", WcCode::UnsupportedPlatform),
        (
            "acceptable_use_classes: [scanning]",
            WcCode::AcceptableUseViolation,
        ),
        ("replica_count: 21", WcCode::InvalidManifest),
        ("replica_count: 0", WcCode::InvalidManifest),
    ];
    for (line, code) in cases {
        let fault = parse(with(line)).unwrap_err();
        assert_eq!(fault.number(), Some(code), "{line}: {fault}");
        assert!(!fault.hint_text().is_empty());
    }
}

#[test]
fn files_are_stored_under_the_path_the_document_spells() {
    let manifest = parse(with("stdin: ./in.txt\ninputs: [{file: ../b, mount: /b}]")).unwrap();
    let mut asked = Vec::new();
    let manifest = manifest
        .resolve(|path| {
            asked.push(path.to_owned());
            Ok(Cid::raw(path))
        })
        .unwrap();
    assert_eq!(asked, ["hello.wasm", "./in.txt", "../b"]);
    assert_eq!(manifest.inputs[0].cid, Cid::raw("../b"));
    let failing = parse(MINIMAL).unwrap().resolve(|path| {
        Err(Fault::wc(
            WcCode::InvalidManifest,
            format!("{path} is not there"),
        ))
    });
    assert!(failing.is_err());
}

#[test]
fn a_task_has_its_own_index_arguments_environment_and_seed() {
    let verified = full().sign_as(job(), &key()).unwrap();
    let request = verified.task(3).unwrap();
    assert_eq!(request.args, ["hello", "--part", "3/12"]);
    assert_eq!(request.env["PART"], "n3");
    assert_eq!(request.env["OTHER"], "${HOME}");
    assert_eq!(request.env["WC_TASK_INDEX"], "3");
    assert_eq!(request.env["WC_TASK_COUNT"], "12");
    assert_eq!((request.task_index, request.task_count), (3, 12));
    assert_eq!(request.job_id, job().to_string());
    assert_ne!(request.profile, verified.task(4).unwrap().profile);
    assert_eq!(request, verified.task(3).unwrap());
    assert!(verified.task(11).is_ok());
    assert_eq!(
        verified.task(12).unwrap_err().number(),
        Some(WcCode::InvalidManifest)
    );
}

#[test]
fn the_same_job_submitted_again_draws_the_same_randomness() {
    let first = full().sign_as(job(), &key()).unwrap();
    let again = full().sign(&key()).unwrap();
    assert_ne!(first.job_id(), again.job_id());
    assert_eq!(
        first.task(5).unwrap().profile,
        again.task(5).unwrap().profile
    );
    let mut other = full();
    other.seed += 1;
    let other = other.sign_as(job(), &key()).unwrap();
    assert_ne!(
        first.task(5).unwrap().profile,
        other.task(5).unwrap().profile
    );
}

#[test]
fn the_largest_manifest_makes_requests_the_sandbox_takes() {
    let mut manifest = full();
    let text = "x".repeat(1_000);
    manifest.command = vec![text.clone(); 30];
    manifest.env = (0..30).map(|n| (format!("V{n}"), text.clone())).collect();
    manifest.resources.ram_bytes = 4 << 30;
    manifest.resources.scratch_bytes = 1 << 30;
    manifest.max_wallclock_ms = MAX_WALL_MS;
    manifest.seed = (1 << 53) - 1;
    manifest.inputs = (0..MAX_INPUTS)
        .map(|n| Input {
            cid: cid(),
            mount: format!("/in/{n}"),
        })
        .collect();
    let verified = manifest.sign_as(job(), &key()).unwrap();
    assert!(verified.task(0).unwrap().check().is_ok());
}

#[test]
fn a_signed_manifest_opens_to_the_same_and_is_named_by_its_bytes() {
    let signed = full().sign_as(job(), &key()).unwrap();
    let opened = VerifiedManifest::open(signed.bytes()).unwrap();
    assert!(opened == signed);
    assert_eq!(*opened.submitter(), key().peer_id());
    assert_eq!(opened.job_id(), job());
    assert_eq!(*opened.cid(), Cid::dag_cbor(signed.bytes()));
    assert_eq!(
        signed.bytes(),
        full().sign_as(job(), &key()).unwrap().bytes()
    );
}

#[test]
fn the_submitters_intent_names_the_manifest_and_every_class() {
    let signed = full().sign_as(job(), &key()).unwrap();
    let intent = signed.submit_intent().unwrap();
    assert_eq!(intent.tool_name(), "worldcompute.job.submit");
    assert_eq!(intent.args()["manifest_cid"], signed.cid().to_string());
    let values: Vec<_> = intent
        .targets()
        .iter()
        .map(|target| target.value.as_str())
        .collect();
    assert_eq!(values, ["class:rendering", "class:scientific"]);
    assert_eq!(intent.context().identity, key().peer_id().to_string());
}

#[test]
fn an_inadmissible_manifest_cannot_be_signed() {
    let mut manifest = full();
    manifest.replica_count = 2;
    assert_eq!(
        manifest.sign_as(job(), &key()).unwrap_err().number(),
        Some(WcCode::UnsupportedPlatform)
    );
    let mut manifest = full();
    manifest.array_count = MAX_TASKS + 1;
    assert!(manifest.sign_as(job(), &key()).is_err());
}

/// The wire form with nothing checked, to write what no submitter would.
#[derive(Clone, Serialize, Deserialize)]
struct Forged {
    body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitter_signature: Option<ByteBuf>,
}

impl Forged {
    fn genuine() -> Self {
        let signed = full().sign_as(job(), &key()).unwrap();
        from_canonical_cbor(signed.bytes()).unwrap()
    }

    fn open(&self) -> Result<VerifiedManifest> {
        VerifiedManifest::open(&canonical_cbor(self).unwrap())
    }
}

#[test]
fn a_missing_empty_short_zero_or_foreign_signature_is_refused_by_the_signature_step() {
    let genuine = Forged::genuine();
    assert!(genuine.open().is_ok());
    let foreign = SigningKey::from_seed([8; 32]).sign(&canonical_cbor(&genuine.body).unwrap());
    let own = genuine.submitter_signature.clone().unwrap().into_vec();
    let signatures = [
        (None, "carries none"),
        (Some(vec![]), "64 bytes"),
        (Some(vec![0; 64]), "all zeros"),
        (Some(own[..63].to_vec()), "64 bytes"),
        (Some([own.as_slice(), &[0]].concat()), "64 bytes"),
        (Some(foreign.to_bytes().to_vec()), "not the submitter's"),
    ];
    for (signature, why) in signatures {
        let forged = Forged {
            submitter_signature: signature.map(ByteBuf::from),
            ..genuine.clone()
        };
        let fault = forged.open().unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::Unauthorized));
        assert!(fault.message().starts_with("signature: "), "{fault}");
        assert!(fault.message().contains(why), "{fault}");
    }
}

/// Every way to change one value of a JSON tree into another of the same type.
fn edits(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![],
        Value::Bool(flag) => vec![(!flag).into()],
        Value::Number(number) => vec![(number.as_u64().unwrap() + 1).into()],
        Value::String(text) => vec![format!("{text}x").into(), text[1.min(text.len())..].into()],
        Value::Array(items) => {
            let mut all: Vec<Value> = items
                .iter()
                .enumerate()
                .flat_map(|(n, item)| edits(item).into_iter().map(move |edit| (n, edit)))
                .map(|(n, edit)| {
                    let mut items = items.clone();
                    items[n] = edit;
                    items.into()
                })
                .collect();
            all.push(
                items
                    .iter()
                    .cloned()
                    .chain([items.first().cloned().unwrap_or("x".into())])
                    .collect(),
            );
            all
        }
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| edits(field).into_iter().map(move |edit| (name, edit)))
            .map(|(name, edit)| {
                let mut fields = fields.clone();
                fields.insert(name.clone(), edit);
                fields.into()
            })
            .collect(),
    }
}

#[test]
fn every_edit_of_any_field_is_refused_and_a_well_formed_one_by_the_signature_step() {
    let genuine = Forged::genuine();
    let edited = edits(&genuine.body);
    assert!(edited.len() > 60, "{}", edited.len());
    let mut by_signature = 0;
    for body in edited {
        let fault = Forged {
            body: body.clone(),
            ..genuine.clone()
        }
        .open()
        .unwrap_err();
        by_signature += usize::from(fault.number() == Some(WcCode::Unauthorized));
    }
    assert!(by_signature > 30, "{by_signature}");
}

#[test]
fn endpoints_classes_and_resources_edited_after_signing_fail_at_the_signature_step() {
    let edits: [(&[&str], Value); 4] = [
        (
            &["manifest", "allowed_endpoints"],
            vec!["evil.example:443"].into(),
        ),
        (
            &["manifest", "acceptable_use_classes"],
            vec!["malware"].into(),
        ),
        (
            &["manifest", "resources", "ram_bytes"],
            (1_u64 << 40).into(),
        ),
        (&["manifest", "confidentiality"], "confidential-high".into()),
    ];
    for (path, value) in edits {
        let mut forged = Forged::genuine();
        *path
            .iter()
            .fold(&mut forged.body, |at, name| &mut at[*name]) = value;
        let fault = forged.open().unwrap_err();
        assert_eq!(
            fault.number(),
            Some(WcCode::Unauthorized),
            "{path:?}: {fault}"
        );
    }
}

#[test]
fn a_rightly_signed_manifest_is_still_held_to_what_donors_offer() {
    let mut forged = Forged::genuine();
    forged.body["manifest"]["acceptable_use_classes"] = vec!["malware"].into();
    forged.submitter_signature = Some(ByteBuf::from(
        key()
            .sign(&canonical_cbor(&forged.body).unwrap())
            .to_bytes(),
    ));
    assert_eq!(
        forged.open().unwrap_err().number(),
        Some(WcCode::AcceptableUseViolation)
    );
}

#[test]
fn another_format_of_the_same_shape_is_refused_even_when_rightly_signed() {
    let mut forged = Forged::genuine();
    forged.body["format"] = "worldcompute/job/v2".into();
    forged.submitter_signature = Some(ByteBuf::from(
        key()
            .sign(&canonical_cbor(&forged.body).unwrap())
            .to_bytes(),
    ));
    assert_eq!(
        forged.open().unwrap_err().number(),
        Some(WcCode::InvalidManifest)
    );
}

#[test]
fn wire_bytes_past_the_limit_are_refused_before_they_are_read() {
    let fault = VerifiedManifest::open(&vec![0; MAX_WIRE_BYTES + 1]).unwrap_err();
    assert!(fault.message().contains("bytes"), "{fault}");
}

proptest! {
    #[test]
    fn flipping_any_bit_of_the_wire_form_is_refused(at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = full().sign_as(job(), &key()).unwrap().bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(VerifiedManifest::open(&bytes).is_err());
    }

    #[test]
    fn cutting_or_extending_the_wire_form_is_refused(at: prop::sample::Index, more: Vec<u8>) {
        let bytes = full().sign_as(job(), &key()).unwrap().bytes().to_vec();
        prop_assert!(VerifiedManifest::open(&bytes[..at.index(bytes.len())]).is_err());
        prop_assume!(!more.is_empty());
        prop_assert!(VerifiedManifest::open(&[bytes, more].concat()).is_err());
    }

    #[test]
    fn no_bytes_panic_a_reader(bytes: Vec<u8>, text in "\\PC{0,200}") {
        let _ = Manifest::parse(&bytes);
        let _ = Manifest::parse(text.as_bytes());
        let _ = VerifiedManifest::open(&bytes);
    }

    #[test]
    fn no_nesting_panics_a_reader(depth in 0..20_000_usize, open in "[\\[{(&*!-]") {
        let _ = Manifest::parse(open.repeat(depth).as_bytes());
    }
}
