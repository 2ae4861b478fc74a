//! `worldcompute verify` and `gait verify` are one verifier: the same files, good and damaged, get the same verdict.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "../../gait/tests/support/artefacts.rs"]
mod artefacts;
#[path = "../../gait/tests/support/packs.rs"]
mod packs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use artefacts::{Artefacts, damaged, unsigned};
use serde_json::Value;

/// Fields of `gait verify` that say something about the call, not about the file.
const OF_THE_CALL: [&str; 4] = ["correlation_id", "path", "signature_note", "next_commands"];

/// The program `gait` of this build, built if it is not there or older than its sources: building a test of it does, and
/// with the features of all tests, so that nothing below it is compiled a second time.
fn gait() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_BIN_EXE_worldcompute"));
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "doctor",
        "--no-run",
    ]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo told this test about itself makes build scripts that watch for it run again, and all above them.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        build.env_remove(name);
    }
    if here
        .parent()
        .is_some_and(|profile| profile.ends_with("release"))
    {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "gait does not build");
    here.with_file_name("gait")
}

/// Both programs.
struct Both {
    gait: PathBuf,
}

/// What they say of one file.
#[derive(Debug)]
struct Said {
    gait: Value,
    worldcompute: Value,
}

impl Both {
    fn new() -> Self {
        Self { gait: gait() }
    }

    /// The verdict, on which both agree.
    fn verify(&self, path: &Path, more: &[&str]) -> (bool, Said) {
        let file = path.to_str().unwrap();
        let arguments = [&["verify", file, "--json"], more].concat();
        let run = |program: &Path| Command::new(program).args(&arguments).output().unwrap();
        let gait = run(&self.gait);
        let worldcompute = run(Path::new(env!("CARGO_BIN_EXE_worldcompute")));
        let said = Said {
            gait: json(&gait.stdout),
            worldcompute: told(&worldcompute),
        };
        let holds = gait.status.success();
        assert_eq!(holds, worldcompute.status.success(), "{said:?}");
        assert_eq!(holds, said.gait["ok"], "{said:?}");
        assert_eq!(holds, said.worldcompute["ok"], "{said:?}");
        (holds, said)
    }
}

fn told(output: &Output) -> Value {
    match output.status.success() {
        true => json(&output.stdout),
        false => json(&output.stderr),
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Whatever one says of a good file, the other says as well.
fn assert_same_report(said: &Said) {
    for (name, value) in said.gait.as_object().unwrap() {
        if !OF_THE_CALL.contains(&name.as_str()) {
            assert_eq!(said.worldcompute[name], *value, "{name} of {said:?}");
        }
    }
}

/// Whatever one finds wrong, the other finds wrong, and says of which file.
fn assert_same_refusal(said: &Said, name: &str) {
    let findings = said.gait["findings"].as_array();
    let wrong = match findings {
        Some(findings) => {
            let findings: Vec<_> = findings.iter().map(|one| one.as_str().unwrap()).collect();
            findings.join("; ")
        }
        None => said.gait["error"].as_str().unwrap().to_owned(),
    };
    assert_eq!(
        said.worldcompute["error"],
        format!("{name}: {wrong}"),
        "{said:?}"
    );
    assert_eq!(said.worldcompute["error_category"], "verification_failed");
}

#[test]
fn good_files_of_every_kind_get_the_same_report() {
    let (both, artefacts) = (Both::new(), Artefacts::new());
    let [key, _] = artefacts.keys();
    for sample in artefacts.all() {
        let arguments: &[&str] = if sample.signed {
            &["--public-key", &key]
        } else {
            &[]
        };
        let (holds, said) = both.verify(&sample.path, arguments);
        assert!(holds, "{said:?}");
        assert_eq!(said.worldcompute["artefact"], sample.kind);
        assert_same_report(&said);
    }
}

#[test]
fn damaged_files_of_every_kind_get_the_same_refusal() {
    let (both, artefacts) = (Both::new(), Artefacts::new());
    let [key, _] = artefacts.keys();
    for sample in artefacts.all() {
        let arguments: &[&str] = if sample.signed {
            &["--public-key", &key]
        } else {
            &[]
        };
        for one in damaged(&sample) {
            let path = artefacts.put("damaged", &one.bytes);
            let (holds, said) = both.verify(&path, arguments);
            assert!(!holds, "{} {}: {said:?}", sample.kind, one.what);
            // What is no artefact any more is refused by either in its own words.
            if said.gait["error_reason"] != "artefact_unknown" {
                assert_same_refusal(&said, "damaged");
            }
        }
    }
}

#[test]
fn keys_and_missing_signatures_weigh_the_same() {
    let (both, artefacts) = (Both::new(), Artefacts::new());
    let ([key, other], samples) = (artefacts.keys(), artefacts.all());
    for sample in &samples {
        let (holds, said) = both.verify(&sample.path, &["--public-key", &other]);
        assert!(!holds, "a key that signed nothing: {said:?}");
        let (holds, _) = both.verify(&sample.path, &["--require-signature", "--public-key", &key]);
        assert_eq!(holds, sample.signed, "{}", sample.kind);
        let (holds, _) = both.verify(&sample.path, &["--require-signature"]);
        assert!(!holds, "{} and no key", sample.kind);
        let (holds, _) = both.verify(&sample.path, &[]);
        let needs_key = matches!(sample.kind, "trace" | "session");
        assert_eq!(holds, !needs_key, "{}", sample.kind);
    }
    let path = artefacts.put("unsigned", &unsigned(&samples[1].path));
    assert!(both.verify(&path, &[]).0);
    let (holds, said) = both.verify(&path, &["--public-key", &key]);
    assert!(!holds);
    assert_same_refusal(&said, "unsigned");
}
