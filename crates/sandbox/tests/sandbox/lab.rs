//! A sandbox with everything around it that a run needs.

use std::collections::BTreeMap;

use gait::{Gate, Policy, SystemClock};
use tempfile::TempDir;
use worldcompute_content::ContentStore;
use worldcompute_fault::Result;
use worldcompute_proof::{Cid, PeerId, SigningKey};
use worldcompute_sandbox::{
    CancelToken, Limits, Mount, Outcome, OutputSpec, Profile, RunRequest, Sandbox, SandboxConfig,
};

const LIBRARY: &str = include_str!("../modules/lib.wat");

/// The text of a guest in `tests/modules`, by the name of its file.
macro_rules! guest {
    ($name:literal) => {
        $crate::lab::text_of(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/modules/",
            $name,
            ".wat"
        )))
    };
}
pub(crate) use guest;

/// A whole module as it is; anything else with the library before it.
pub fn text_of(guest: &str) -> String {
    let code = guest
        .lines()
        .find(|line| !line.trim_start().starts_with(";;"))
        .unwrap_or_default();
    if code.starts_with("(module") || code.starts_with("(component") {
        return guest.to_owned();
    }
    format!("(module {LIBRARY} {guest})")
}

pub struct Lab {
    pub content: ContentStore,
    pub sandbox: Sandbox,
    gate: Gate,
    dir: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(SandboxConfig::default())
    }

    pub fn with(config: SandboxConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = worldcompute_content::Limits::default();
        let policy = gait::starter::donor_policy(&["scientific"]);
        Self {
            content: ContentStore::open(dir.path().join("content"), limits).unwrap(),
            sandbox: Sandbox::new(config).unwrap(),
            gate: Gate::new(
                Policy::parse(policy.as_bytes()).unwrap(),
                SigningKey::from_seed([7; 32]),
                SystemClock::shared(),
            ),
            dir,
        }
    }

    pub fn put(&self, bytes: impl AsRef<[u8]>) -> Cid {
        self.content.put(bytes.as_ref()).unwrap()
    }

    /// A request for a guest, with limits that no honest guest of the tests comes near.
    pub fn request(&self, guest: impl AsRef<[u8]>) -> RunRequest {
        RunRequest {
            job_id: "job".to_owned(),
            task_index: 0,
            task_count: 1,
            submitter: PeerId::from(&SigningKey::from_seed([1; 32]).verifying_key()),
            classes: vec!["scientific".to_owned()],
            workload: self.put(guest),
            args: vec!["guest".to_owned()],
            env: BTreeMap::new(),
            stdin: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            limits: Limits {
                fuel: 1_000_000_000,
                memory_bytes: 16 << 20,
                wall_ms: 60_000,
                output_bytes: 1 << 20,
            },
            profile: Profile::Deterministic { seed: 42 },
        }
    }

    pub fn permit(&self, request: &RunRequest) -> gait::Permit {
        self.gate
            .decide(&request.intent().unwrap())
            .unwrap()
            .permit()
            .unwrap()
    }

    pub async fn try_run(&self, request: &RunRequest) -> Result<Outcome> {
        let permit = self.permit(request);
        self.sandbox
            .run(permit, request, &self.content, CancelToken::new())
            .await
    }

    pub async fn run(&self, request: &RunRequest) -> Outcome {
        self.try_run(request).await.unwrap()
    }

    /// Changes the bytes of an object on the disk.
    pub fn damage(&self, cid: &Cid) {
        let path = self.object_file(cid);
        let bytes = std::fs::read(&path).unwrap();
        worldcompute_durable::write_atomic(
            &path,
            &[bytes.as_slice(), b" "].concat(),
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
    }

    fn object_file(&self, cid: &Cid) -> std::path::PathBuf {
        let shards = std::fs::read_dir(self.dir.path().join("content/objects")).unwrap();
        let paths = shards.map(|shard| shard.unwrap().path().join(cid.to_string()));
        paths.into_iter().find(|path| path.exists()).unwrap()
    }

    /// Returns once every worker has a guest.
    pub async fn until_busy(&self) {
        while self.sandbox.idle_workers() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Runs a guest as it comes.
    pub async fn run_guest(&self, guest: impl AsRef<[u8]>) -> Outcome {
        self.run(&self.request(guest)).await
    }
}

pub fn mount(cid: Cid, path: &str) -> Mount {
    Mount {
        cid,
        path: path.to_owned(),
    }
}

pub fn output(path: &str, max_bytes: u64) -> OutputSpec {
    OutputSpec {
        name: "result".to_owned(),
        path: path.to_owned(),
        max_bytes,
    }
}

pub fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}
