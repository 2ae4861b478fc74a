//! One file by itself, or with the bundle it lies in.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::evidence::{self, Pins, Rerun};

use crate::job::{Bundle, Job, donor, expect, receipt_name, stranger, submitter};

/// A copy of one file of the bundle, outside of it.
struct Copy {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Copy {
    fn of(bundle: &Bundle, name: &str) -> Self {
        Self::named(&bundle.read(name), name.rsplit('/').next().unwrap())
    }

    fn named(bytes: &[u8], name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        worldcompute_durable::write_atomic(&path, bytes, worldcompute_durable::Mode::Public)
            .unwrap();
        Self {
            path,
            _folder: folder,
        }
    }

    fn verify(&self) -> worldcompute_fault::Result<evidence::Report> {
        evidence::verify(&self.path, &Pins::default())
    }

    fn verify_pinned(
        &self,
        submitter: Option<PeerId>,
        executors: Vec<PeerId>,
    ) -> worldcompute_fault::Result<evidence::Report> {
        evidence::verify(
            &self.path,
            &Pins {
                submitter,
                executors,
                ..Pins::default()
            },
        )
    }
}

fn trace_of(job: &Job, task: usize) -> String {
    format!(
        "decisions/{}.json",
        job.receipts[task].receipt().decision.trace_cid
    )
}

#[test]
fn every_file_verifies_inside_its_bundle() {
    let bundle = Bundle::new();
    for name in bundle.names() {
        let report = bundle
            .verify_file(&name)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(
            report.parts.iter().any(|part| part.name == name),
            "{name}: {report:?}"
        );
        assert!(!report.proven.is_empty() && !report.not_proven.is_empty());
    }
}

#[test]
fn a_receipt_inside_its_bundle_is_verified_with_all_it_refers_to() {
    let job = Job::new();
    let bundle = Bundle::of(&job);
    let receipt = job.receipts[1].receipt();
    let result = format!("objects/{}", receipt.outcome.outputs[0].cid);
    for (name, code) in [
        (&result, "evidence_changed"),
        (&trace_of(&job, 1), "evidence_changed"),
    ] {
        let good = bundle.read(name);
        bundle.put(name, &[good.as_slice(), b" "].concat());
        expect(bundle.verify_file(&receipt_name(1)), code, name);
        bundle.verify_file(&receipt_name(0)).unwrap();
        bundle.put(name, &good);
    }
    bundle.put(&receipt_name(3), &bundle.read(&receipt_name(1)));
    expect(
        bundle.verify_file(&receipt_name(3)),
        "evidence_unexpected",
        &receipt_name(3),
    );
}

#[test]
fn every_changed_byte_of_a_lone_receipt_or_manifest_is_refused() {
    let (bundle, alone) = (Bundle::new(), Bundle::new());
    alone.remove("index.json");
    for name in [receipt_name(0), "manifest.cbor".to_owned()] {
        let good = bundle.read(&name);
        let file = name.rsplit('/').next().unwrap();
        for position in 0..good.len() {
            let mut bent = good.clone();
            bent[position] ^= 1 << (position % 8);
            alone.put(&name, &bent);
            let fault = alone.verify_file(&name).expect_err("a changed byte");
            assert!(fault.message().starts_with(&format!("{file}: ")), "{fault}");
        }
        alone.put(&name, &good);
        alone.verify_file(&name).unwrap();
    }
}

#[test]
fn a_lone_receipt_says_what_it_leaves_open() {
    let report = Copy::of(&Bundle::new(), &receipt_name(0)).verify().unwrap();
    for missing in [
        "the manifest was not at hand",
        "their traces were not at hand",
        "only their names were at hand",
    ] {
        assert!(
            report.not_proven.iter().any(|line| line.contains(missing)),
            "{missing}"
        );
    }
}

#[test]
fn a_lone_receipt_with_other_parties_than_the_pinned_is_refused() {
    let copy = Copy::of(&Bundle::new(), &receipt_name(0));
    let (submitter, executor, other) = (
        submitter().peer_id(),
        donor(0).peer_id(),
        stranger().peer_id(),
    );
    copy.verify_pinned(Some(submitter), vec![executor]).unwrap();
    expect(
        copy.verify_pinned(Some(other), vec![]),
        "evidence_invalid",
        "00000.json",
    );
    expect(
        copy.verify_pinned(None, vec![other]),
        "evidence_invalid",
        "00000.json",
    );
}

#[test]
fn a_receipt_without_countersignature_is_refused() {
    let half = Job::new().receipts[0]
        .receipt()
        .clone()
        .sign(&donor(0))
        .unwrap();
    expect(
        Copy::named(half.bytes(), "half.json").verify(),
        "evidence_invalid",
        "half.json",
    );
}

#[test]
fn a_lone_manifest_proves_that_its_submitter_asked() {
    let copy = Copy::of(&Bundle::new(), "manifest.cbor");
    let report = copy.verify().unwrap();
    assert!(report.proven[0].contains(&submitter().peer_id().to_string()));
    assert!(
        report
            .not_proven
            .iter()
            .any(|line| line.contains("a manifest only asks"))
    );
    copy.verify_pinned(Some(submitter().peer_id()), vec![])
        .unwrap();
    expect(
        copy.verify_pinned(Some(stranger().peer_id()), vec![]),
        "evidence_invalid",
        "manifest.cbor",
    );
}

#[test]
fn a_lone_trace_needs_its_gate_s_key() {
    let job = Job::new();
    let bundle = Bundle::of(&job);
    let name = trace_of(&job, 1);
    let copy = Copy::of(&bundle, &name);
    let file = name.rsplit('/').next().unwrap();
    expect(copy.verify(), "evidence_unproven", file);
    expect(
        copy.verify_pinned(Some(submitter().peer_id()), vec![donor(0).peer_id()]),
        "evidence_unproven",
        file,
    );
    let report = copy
        .verify_pinned(None, vec![donor(0).peer_id(), donor(1).peer_id()])
        .unwrap();
    assert!(report.proven[0].contains("says allow"), "{report:?}");
    let text = String::from_utf8(bundle.read(&name)).unwrap();
    let bent = Copy::named(text.replace("allow", "block").as_bytes(), file);
    expect(
        bent.verify_pinned(None, vec![donor(1).peer_id()]),
        "evidence_invalid",
        file,
    );
}

#[test]
fn a_lone_index_says_nothing() {
    let copy = Copy::of(&Bundle::new(), "index.json");
    expect(copy.verify(), "evidence_unproven", "index.json");
}

#[test]
fn a_lone_object_has_the_bytes_of_its_name() {
    let cid = Cid::raw("content").to_string();
    Copy::named(b"content", &cid).verify().unwrap();
    expect(
        Copy::named(b"contend", &cid).verify(),
        "evidence_changed",
        &cid,
    );
}

/// A runpack with one entry more than its manifest declares, and the same without.
fn runpacks(folder: &std::path::Path) -> [PathBuf; 2] {
    let (good, _) = gait::demo::record(folder).unwrap();
    let archive = gait::archive::Archive::open(&good).unwrap();
    let names = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned());
    let names: Vec<_> = names.collect();
    let mut entries: Vec<_> = names
        .into_iter()
        .map(|name| (archive.bytes(&name, 1 << 20).unwrap(), name))
        .collect();
    entries.push((b"more".to_vec(), "zz_more.txt".to_owned()));
    let longer = folder.join("longer.zip");
    gait::archive::write(&longer, |writer| {
        entries.iter().try_for_each(|(bytes, name)| {
            let write = |error| gait::archive::fault_of("write", error);
            writer.entry(name, |out| out.write_all(bytes).map_err(write))
        })
    })
    .unwrap();
    [longer, good]
}

#[test]
fn a_lone_file_of_a_gate_is_verified_as_the_gate_verifies_it() {
    let folder = tempfile::tempdir().unwrap();
    let [longer, good] = runpacks(folder.path());
    let report = evidence::verify(&good, &Pins::default()).unwrap();
    let artefact = report.artefact.as_ref().unwrap();
    assert_eq!((artefact.name(), artefact.holds()), ("runpack", true));
    assert!(
        report
            .not_proven
            .iter()
            .any(|one| one.starts_with("who made it"))
    );

    let longer = evidence::verify(&longer, &Pins::default());
    let message = longer.as_ref().unwrap_err().message().to_owned();
    assert_eq!(message, "longer.zip: undeclared: zz_more.txt");
    expect(longer, "evidence_unexpected", "longer.zip");
    let pinned = Pins {
        submitter: Some(submitter().peer_id()),
        ..Pins::default()
    };
    let required = Pins {
        signature: true,
        ..Pins::default()
    };
    let name = good.file_name().unwrap().to_str().unwrap();
    for pins in [pinned, required] {
        expect(evidence::verify(&good, &pins), "evidence_unproven", name);
    }
}

#[test]
fn links_and_files_of_no_known_kind_are_refused() {
    let bundle = Bundle::new();
    let copy = Copy::of(&bundle, &receipt_name(0));
    let link = copy.path.with_file_name("link.json");
    symlink(&copy.path, &link).unwrap();
    expect(
        evidence::verify(&link, &Pins::default()),
        "evidence_unexpected",
        "link.json",
    );
    for bytes in [
        b"".as_slice(),
        b"{}",
        b"{",
        b"[]",
        b"\x00",
        b"{\"schema_id\":1}",
        b"{\"payloadType\":1}",
    ] {
        expect(
            Copy::named(bytes, "file").verify(),
            "evidence_invalid",
            "file",
        );
    }
    let hostile = Copy::named(b"{}", "a\u{1b}[2Jb");
    assert!(!hostile.verify().unwrap_err().message().contains('\u{1b}'));
}

#[test]
fn any_bytes_are_refused_without_panic() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let check = |bytes: Vec<u8>| {
        worldcompute_durable::write_atomic(&path, &bytes, worldcompute_durable::Mode::Public)
            .unwrap();
        proptest::prop_assert!(evidence::verify(&path, &Pins::default()).is_err());
        Ok(())
    };
    runner
        .run(&proptest::prelude::any::<Vec<u8>>(), check)
        .unwrap();
}

#[test]
fn what_no_node_makes_is_called_that_and_nothing_is_guessed_from_its_bytes() {
    for bytes in [&b"# a text\n"[..], b"", b"\x00", b"[1]", b"\x9f\xff"] {
        let fault = Copy::named(bytes, "notes.md").verify().unwrap_err();
        assert_eq!(fault.code(), "evidence_invalid");
        assert_eq!(
            fault.message(),
            "notes.md: nothing that a node or a gate makes"
        );
    }
}

#[test]
fn a_receipt_in_its_bundle_says_what_to_run_again_and_on_which_bytes() {
    let (job, bundle) = (Job::new(), Bundle::new());
    let rerun = Rerun::open(&bundle.path(&receipt_name(1)), &Pins::default()).unwrap();
    assert_eq!(*rerun.request(), job.manifest.task(1).unwrap());
    assert_eq!(rerun.receipt(), job.receipts[1].receipt());
    let workload = rerun.request().workload;
    let bytes = &job.objects[&workload];
    assert_eq!(rerun.object(&workload, bytes.len()).unwrap(), *bytes);
    let past = rerun.object(&workload, bytes.len() - 1).unwrap_err();
    assert_eq!(past.code(), "evidence_too_large");
    bundle.put(&format!("objects/{workload}"), b"other bytes");
    let changed = rerun.object(&workload, bytes.len()).unwrap_err();
    assert_eq!(changed.code(), "evidence_changed");
}

#[test]
fn nothing_but_a_receipt_in_its_bundle_says_what_to_run_again() {
    let bundle = Bundle::new();
    let copy = Copy::of(&bundle, &receipt_name(0));
    let open = |path: &std::path::Path| Rerun::open(path, &Pins::default()).err().unwrap();
    for path in [&copy.path, &bundle.dir, &bundle.path("manifest.cbor")] {
        assert_eq!(open(path).code(), "rerun_incomplete", "{}", path.display());
    }
    bundle.put(&receipt_name(7), &bundle.read(&receipt_name(1)));
    let unknown = open(&bundle.path(&receipt_name(7)));
    assert_eq!(unknown.code(), "evidence_unexpected");
}

#[test]
fn what_does_not_verify_is_not_given_to_be_run_again() {
    let bundle = Bundle::new();
    bundle.swap(&receipt_name(0), &receipt_name(1));
    let refused = Rerun::open(&bundle.path(&receipt_name(0)), &Pins::default());
    assert_eq!(refused.err().unwrap().code(), "evidence_changed");
    let pins = Pins {
        executors: vec![stranger().peer_id()],
        ..Pins::default()
    };
    let bundle = Bundle::new();
    let refused = Rerun::open(&bundle.path(&receipt_name(0)), &pins);
    assert_eq!(refused.err().unwrap().code(), "evidence_invalid");
}
