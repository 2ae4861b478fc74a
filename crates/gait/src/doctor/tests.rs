use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use worldcompute_durable::{Mode, write_atomic};
use worldcompute_proof::SigningKey;

use super::*;
use crate::clock::SystemClock;

/// A project, a home and an environment that nothing of the machine leaks into.
struct Patient {
    dir: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    options: Options,
}

impl Patient {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for name in ["project/gait-out", "home/.gait/registry", "tmp"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        let environment = BTreeMap::from([
            ("HOME".to_owned(), at("home")),
            ("TMPDIR".to_owned(), at("tmp")),
        ]);
        let options = Options {
            workdir: at("project").into(),
            output_dir: "./gait-out".into(),
            keys: Keys {
                mode: "dev".to_owned(),
                ..Keys::default()
            },
            production_readiness: false,
        };
        Self {
            dir,
            environment,
            options,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_atomic(&path, content.as_bytes(), Mode::Private).unwrap();
        path
    }

    fn examine(&self) -> Report {
        let means = Means {
            clock: &SystemClock,
            environment: &self.environment,
        };
        examine(&self.options, &means)
    }

    fn check(&self, name: &str) -> Check {
        let report = self.examine();
        report
            .checks
            .into_iter()
            .find(|check| check.name == name)
            .unwrap()
    }
}

#[test]
fn the_checks_come_in_the_order_of_the_contract() {
    let report = Patient::new().examine();
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            "workdir",
            "output_dir",
            "job_runtime_durability",
            "temp_dir",
            "registry_cache",
            "gate_rate_limit_lock",
            "onboarding_binary",
            "key_source_ambiguity",
            "key_permissions",
            "key_config",
            "clock",
        ]
    );
    assert!(report.is_healthy(), "{report:?}");
    assert!(report.fix_commands.is_sorted());
}

#[test]
fn looking_leaves_nothing_behind() {
    let patient = Patient::new();
    patient.examine();
    for (dir, entries) in [
        ("project", 1),
        ("project/gait-out", 0),
        ("tmp", 0),
        ("home/.gait/registry", 0),
    ] {
        assert_eq!(
            std::fs::read_dir(patient.path(dir)).unwrap().count(),
            entries,
            "{dir}"
        );
    }
}

#[test]
fn a_missing_directory_is_found_with_the_command_that_makes_it() {
    let mut patient = Patient::new();
    std::fs::remove_dir(patient.path("project/gait-out")).unwrap();
    let check = patient.check("output_dir");
    assert_eq!(check.status, Status::Warn);
    assert!(check.fix_command.unwrap().starts_with("mkdir -p '"));
    patient.options.workdir = patient.path("it's not there");
    let check = patient.check("workdir");
    assert_eq!(check.status, Status::Fail);
    assert!(check.fix_command.unwrap().ends_with("it'\\''s not there'"));
    patient
        .environment
        .insert("TMPDIR".to_owned(), "/nonexistent".to_owned());
    assert_eq!(patient.check("temp_dir").status, Status::Fail);
    patient.file("home/.gait/registry.moved", "");
    std::fs::remove_dir(patient.path("home/.gait/registry")).unwrap();
    assert_eq!(patient.check("registry_cache").status, Status::Warn);
    std::fs::rename(
        patient.path("home/.gait/registry.moved"),
        patient.path("home/.gait/registry"),
    )
    .unwrap();
    assert_eq!(patient.check("registry_cache").status, Status::Fail);
}

#[test]
fn a_stale_lock_is_looked_for_where_the_gate_takes_it() {
    let patient = Patient::new();
    let elsewhere = patient.file("project/gait-out/gate_rate_limits.json.lock", "{}");
    age(&elsewhere);
    assert_eq!(patient.check("gate_rate_limit_lock").status, Status::Pass);
    let lock = patient.file("project/.gait-out/gate_rate_limits.json.lock", "{}");
    assert_eq!(patient.check("gate_rate_limit_lock").status, Status::Pass);
    age(&lock);
    let check = patient.check("gate_rate_limit_lock");
    assert_eq!(check.status, Status::Warn);
    assert!(check.fix_command.unwrap().starts_with("rm -f "));
    patient.file(
        "project/.gait/config.yaml",
        "gate: {rate_limit_state: state/limits.json}\n",
    );
    assert_eq!(patient.check("gate_rate_limit_lock").status, Status::Pass);
    age(&patient.file("project/state/limits.json.lock", "{}"));
    assert_eq!(patient.check("gate_rate_limit_lock").status, Status::Warn);
    std::fs::remove_file(patient.path("project/state/limits.json.lock")).unwrap();
    std::fs::create_dir(patient.path("project/state/limits.json.lock")).unwrap();
    assert_eq!(patient.check("gate_rate_limit_lock").status, Status::Fail);
}

fn age(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
}

#[test]
fn a_job_whose_log_and_state_disagree_is_found() {
    let patient = Patient::new();
    patient.file("project/gait-out/jobs/job_1/state.json", "{");
    let check = patient.check("job_runtime_durability");
    assert_eq!(check.status, Status::Fail);
    assert!(check.fix_command.unwrap().contains("job_1"));
}

#[test]
fn a_pin_of_nothing_is_found() {
    let patient = Patient::new();
    patient.file(
        "home/.gait/registry/pins/base.pin",
        &format!("sha256:{}\n", "ab".repeat(32)),
    );
    assert_eq!(patient.check("registry_cache").status, Status::Warn);
    patient.file("home/.gait/registry/pins/base.pin", "no digest");
    assert_eq!(patient.check("registry_cache").status, Status::Warn);
}

#[test]
fn ambiguous_missing_and_open_keys_fail_the_whole_report() {
    let key = SigningKey::generate().unwrap();
    let mut patient = Patient::new();
    let path = patient.file("private.key", &key.file_text());
    let path = path.to_str().unwrap().to_owned();
    patient.options.keys = Keys {
        mode: "prod".to_owned(),
        private_key: path.clone(),
        private_key_env: "KEY".to_owned(),
        ..Keys::default()
    };
    assert_eq!(patient.check("key_source_ambiguity").status, Status::Fail);
    let report = patient.examine();
    assert!(!report.is_healthy() && report.status == Status::Fail && !report.non_fixable);
    patient.options.keys.private_key_env.clear();
    assert!(patient.examine().is_healthy());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(patient.check("key_permissions").status, Status::Fail);
    patient.options.keys.private_key.clear();
    assert_eq!(patient.check("key_config").status, Status::Fail);
    patient.options.keys.mode = "zzz".to_owned();
    assert_eq!(
        patient.check("key_config").fix_command.unwrap(),
        "gait doctor --help # use --key-mode dev or --key-mode prod"
    );
}

#[test]
fn production_asks_for_every_setting() {
    let key = SigningKey::generate().unwrap();
    let mut patient = Patient::new();
    patient.options.production_readiness = true;
    patient.options.keys.mode = "prod".to_owned();
    patient.options.keys.private_key_env = "KEY".to_owned();
    patient
        .environment
        .insert("KEY".to_owned(), key.file_text().to_string());
    let config = "project/.gait/config.yaml";
    assert_eq!(
        patient.check("production_readiness_config").status,
        Status::Fail
    );
    patient.file(config, "gate: [");
    assert_eq!(
        patient.check("production_readiness_config").status,
        Status::Fail
    );
    let sound = "gate: {profile: oss-prod, key_mode: prod, policy: p.yaml}\n\
         retention: {trace_ttl: 168h, session_ttl: 24h, export_ttl: 1h}\n\
         mcp_serve: {enabled: true, listen: '0.0.0.0:8787', auth_mode: token, auth_token_env: T, \
         max_request_bytes: 1048576, http_verdict_status: strict}\n";
    patient.file(config, sound);
    assert_eq!(patient.examine().status, Status::Pass);
    for (from, to, check) in [
        ("oss-prod", "standard", "production_profile"),
        ("key_mode: prod", "key_mode: dev", "production_key_mode"),
        ("168h", "7d", "production_retention"),
        ("24h", "-24h", "production_retention"),
        ("export_ttl: 1h", "export_ttl: ''", "production_retention"),
        (
            "auth_mode: token",
            "auth_mode: off",
            "production_service_boundary",
        ),
        (
            "auth_token_env: T",
            "auth_token_env: ''",
            "production_service_boundary",
        ),
        (
            "0.0.0.0:8787",
            "gate.example:80",
            "production_service_boundary",
        ),
        ("1048576", "4194305", "production_service_boundary"),
        ("1048576", "0", "production_service_boundary"),
        (
            "status: strict",
            "status: compat",
            "production_service_boundary",
        ),
        (
            "policy: p.yaml",
            "policy: ''",
            "production_context_strictness",
        ),
    ] {
        patient.file(config, &sound.replace(from, to));
        assert_eq!(patient.check(check).status, Status::Fail, "{to}");
        assert!(!patient.examine().is_healthy());
    }
}

#[test]
fn a_checkout_is_examined_further() {
    let patient = Patient::new();
    for dir in [
        "project/.git",
        "project/crates/gait",
        "project/schemas/v1/gate",
    ] {
        std::fs::create_dir_all(patient.path(dir)).unwrap();
    }
    let report = patient.examine();
    let names: Vec<_> = report
        .checks
        .iter()
        .skip(10)
        .map(|check| check.name)
        .collect();
    assert_eq!(
        names,
        ["schema_files", "hooks_path", "onboarding_assets", "clock"]
    );
    assert!(report.non_fixable && !report.is_healthy());
}
