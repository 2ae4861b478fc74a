//! One good file of every kind that the gate makes, and what somebody does to them who should not.

#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "every test binary uses a part of it"
)]

use std::path::{Path, PathBuf};

use gait::gate::{Outputs, Request};
use gait::guard::Template;
use gait::pack::Build;
use gait::run_session::{LockSettings, NewEvent, Session, checkpoint};
use gait::runpack::Stamp;
use gait::session::SessionLog;
use gait::{Gate, Intent, Policy, SystemClock, VERSION};
use serde_json::{Value, json};
use worldcompute_proof::SigningKey;

use super::packs;

/// The files, in a folder of their own.
pub struct Artefacts {
    dir: tempfile::TempDir,
    key: SigningKey,
}

/// A file that is good.
pub struct Sample {
    /// What both verifiers have to call it.
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Whether the key of the makers signed it.
    pub signed: bool,
}

const POLICY: &str = "{schema_id: gait.gate.policy, schema_version: 1.0.0, default_verdict: block, rules: \
    [{name: reads, priority: 1, effect: allow, match: {tool_names: [tool.read]}}]}";

impl Artefacts {
    pub fn new() -> Self {
        let artefacts = Self {
            dir: tempfile::tempdir().unwrap(),
            key: SigningKey::from_seed([5; 32]),
        };
        let public = artefacts.key.verifying_key().to_base64();
        artefacts.put("public.key", public.as_bytes());
        let other = SigningKey::from_seed([6; 32]).verifying_key().to_base64();
        artefacts.put("other.key", other.as_bytes());
        artefacts
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The key that signed, and one that signed nothing.
    pub fn keys(&self) -> [String; 2] {
        ["public.key", "other.key"].map(|name| self.path(name).to_str().unwrap().to_owned())
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        gait::artefact::write(&self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// One of every kind. No name says what its file is.
    pub fn all(&self) -> Vec<Sample> {
        let sample = |kind, path, signed| Sample { kind, path, signed };
        vec![
            sample("runpack", self.runpack(), false),
            sample("pack", self.pack(), true),
            sample("guard_pack", self.guard_pack(), true),
            sample("trace", self.trace(), true),
            sample("session", self.session(false), true),
            sample("session", self.session(true), true),
            sample("session_chain", self.session_chain(), true),
        ]
    }

    /// The pack of a job, which nobody signed.
    pub fn job_pack(&self) -> Sample {
        let path = self.path("eight");
        gait::demo::durable(&self.path("jobs"), &path).unwrap();
        Sample {
            kind: "pack",
            path,
            signed: false,
        }
    }

    fn runpack(&self) -> PathBuf {
        let (made, _) = gait::demo::record(self.dir.path()).unwrap();
        self.put("one", &std::fs::read(made).unwrap())
    }

    fn pack(&self) -> PathBuf {
        let path = self.path("two");
        let build = Build {
            output: Some(&path),
            producer_version: VERSION,
            key: Some(&self.key),
        };
        gait::pack::build_run(&self.runpack(), &build).unwrap();
        path
    }

    fn guard_pack(&self) -> PathBuf {
        let (path, runpack) = (self.path("three"), self.runpack());
        let request = gait::guard::Request {
            runpack: &runpack,
            output: Some(&path),
            case_id: "",
            template: Template::Soc2,
            inventory: Vec::new(),
            traces: Vec::new(),
            trace_key: None,
            regress: Vec::new(),
            approval_audits: Vec::new(),
            credential_evidence: Vec::new(),
            discover: false,
            render_pdf: false,
            producer_version: VERSION,
            key: &self.key,
        };
        gait::guard::build(&request).unwrap();
        path
    }

    fn gate(&self) -> Gate {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        Gate::new(policy, self.key.clone(), SystemClock::shared())
    }

    fn trace(&self) -> PathBuf {
        let decision = self.gate().decide(&intent("tool.read")).unwrap();
        self.put("four", decision.trace().bytes())
    }

    fn session(&self, closed: bool) -> PathBuf {
        let path = self.path(if closed { "six" } else { "five" });
        let log = SessionLog::at(&path);
        for tool in ["tool.read", "tool.write", "tool.read"] {
            let outputs = Outputs {
                trace: Some(self.path("numbered")),
                ..Outputs::default()
            };
            let request = Request {
                session: Some(log),
                outputs: Some(&outputs),
                ..Request::default()
            };
            self.gate().decide_on(&intent(tool), &request).unwrap();
        }
        if closed {
            log.close(&self.key, jiff::Timestamp::UNIX_EPOCH).unwrap();
        }
        path
    }

    /// A decision of a session, in a file of its own.
    pub fn numbered_trace(&self) -> PathBuf {
        self.session(false);
        self.path("numbered")
    }

    fn session_chain(&self) -> PathBuf {
        let journal = self.path("journal.jsonl");
        let session = Session {
            journal: &journal,
            lock: LockSettings::default(),
            producer_version: VERSION,
            now: Stamp::at(jiff::Timestamp::UNIX_EPOCH),
        };
        session.start("s1", "run_s").unwrap();
        for name in ["cp1.zip", "cp2.zip"] {
            let event = NewEvent {
                tool_name: "tool.read",
                verdict: "allow",
                ..NewEvent::default()
            };
            session.record(&event).unwrap();
            let chain = self.path("seven");
            checkpoint(&session, &self.path(name), &chain, Some(&self.key)).unwrap();
        }
        self.path("seven")
    }
}

fn intent(tool: &str) -> Intent {
    let intent = json!({"tool_name": tool, "args": {},
        "context": {"identity": "alice", "workspace": "/srv", "risk_class": "low"}});
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

/// What became of a file in hostile hands.
pub struct Damaged {
    /// What was done.
    pub what: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// What a verifier has to find first, where that is one thing.
    pub finding: Option<String>,
}

impl Damaged {
    fn new(what: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            what: what.into(),
            bytes,
            finding: None,
        }
    }
}

/// What becomes of `sample` in hostile hands.
pub fn damaged(sample: &Sample) -> Vec<Damaged> {
    let bytes = std::fs::read(&sample.path).unwrap();
    let mut damaged = vec![Damaged::new(
        "cut in half",
        bytes[..bytes.len() / 2].to_vec(),
    )];
    for part in 1..8 {
        let mut flipped = bytes.clone();
        let at = bytes.len() * part / 8;
        flipped[at] ^= 1;
        damaged.push(Damaged::new(format!("a bit of byte {at} flipped"), flipped));
    }
    damaged.extend(match sample.kind {
        "runpack" | "pack" | "guard_pack" => damaged_archives(&sample.path),
        kind => damaged_texts(&String::from_utf8(bytes).unwrap(), kind),
    });
    damaged
}

fn damaged_archives(path: &Path) -> Vec<Damaged> {
    let entries = packs::read(path);
    let written = |what: &str, finding: Option<String>, change: &dyn Fn(&mut packs::Entries)| {
        let mut entries = entries.clone();
        change(&mut entries);
        let copy = path.with_extension("copy");
        packs::write(&copy, &entries);
        Damaged {
            finding,
            ..Damaged::new(what, std::fs::read(copy).unwrap())
        }
    };
    let found = |finding: String| Some(finding);
    let mut damaged = vec![written(
        "an entry added",
        found("undeclared: zz_added.txt".to_owned()),
        &|entries| drop(entries.insert("zz_added.txt".to_owned(), b"more".to_vec())),
    )];
    for name in entries.keys() {
        if name.ends_with("manifest.json") {
            damaged.push(written("manifest taken out", None, &|entries| {
                entries.remove(name);
            }));
            continue;
        }
        let (missing, changed) = (format!("missing: {name}"), format!("changed: {name}"));
        damaged.push(written(&missing, found(missing.clone()), &|entries| {
            entries.remove(name);
        }));
        damaged.push(written(&changed, found(changed.clone()), &|entries| {
            entries.get_mut(name).unwrap().push(b' ');
        }));
    }
    damaged
}

/// A pack whose manifest is as if nobody had ever signed it: its id fits, its signatures are gone.
pub fn unsigned(pack: &Path) -> Vec<u8> {
    let copy = pack.with_extension("copy");
    let mut entries = packs::read(pack);
    let manifest = entries.remove("pack_manifest.json").unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest.as_object_mut().unwrap().remove("signatures");
    packs::with_manifest(&copy, entries, manifest);
    std::fs::read(copy).unwrap()
}

fn damaged_texts(text: &str, kind: &str) -> Vec<Damaged> {
    let mut damaged = Vec::new();
    let mut add = |what: &str, changed: String| {
        assert_ne!(changed, text, "{what}");
        damaged.push(Damaged::new(what, changed.into_bytes()));
    };
    match kind {
        "trace" => {
            add("verdict changed", text.replace("\"allow\"", "\"block\""));
            add("field added", text.replacen('{', "{\"more\": 1,", 1));
            let mut unsigned: Value = serde_json::from_str(text).unwrap();
            unsigned.as_object_mut().unwrap().remove("signature");
            add("signature taken away", unsigned.to_string());
        }
        "session" => {
            let lines: Vec<_> = text.split_inclusive('\n').collect();
            add("first taken out", lines[1..].concat());
            add(
                "second taken out",
                [lines[0], &lines[2..].concat()].concat(),
            );
            add(
                "two swapped",
                [lines[1], lines[0], &lines[2..].concat()].concat(),
            );
            add(
                "verdict changed",
                text.replacen("\"block\"", "\"allow\"", 1),
            );
            add("one twice", [lines[0], text].concat());
            add("end cut off", text.trim_end().to_owned());
        }
        _ => {
            let chain: Value = serde_json::from_str(text).unwrap();
            let mut changed = chain.clone();
            changed["checkpoints"][0]["manifest_digest"] = "0".repeat(64).into();
            add("digest changed", changed.to_string());
            let mut changed = chain;
            changed["checkpoints"].as_array_mut().unwrap().remove(0);
            add("checkpoint taken out", changed.to_string());
        }
    }
    damaged
}
