//! What a network lets through, found out by the mesh and written down as evidence.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use worldcompute_evidence::{
    Area, Assertion, Bundle, Commit, Machine, Metadata, Overall, Results, run_id,
};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_mesh::MeshConfig;
use worldcompute_mesh::diagnosis::diagnose;
pub use worldcompute_mesh::diagnosis::{Diagnosis, Probe, ProbeKind, ProbeState};
use worldcompute_proof::SigningKey;

use crate::config::Config;
use crate::{listen, web};

/// The phase of the project that evidence of networks belongs to, and what it is evidence for.
const PHASE: u8 = 1;
const SPEC: &str = "world-compute 1.A";

/// A run of `firewall-diagnose`, as its JSON shows it. Members are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What was found out.
    #[serde(flatten)]
    pub found: Diagnosis,
    /// Where the evidence lies.
    pub evidence: Option<String>,
    /// Why there is none.
    pub no_evidence: Option<String>,
}

/// Finds out what the network around this machine lets through to the bootstrap relays of `config`; each probe is sent to
/// `told` when it is over. A daemon that runs is not touched.
///
/// # Errors
/// `no_relays`; `invalid_address` and what else of the configuration is of no use.
pub async fn run(
    config: &Config,
    within: Duration,
    told: mpsc::UnboundedSender<Probe>,
) -> Result<Report> {
    let mut mesh = MeshConfig::new(SigningKey::generate()?);
    mesh.bootstrap = listen::parse(&config.relays())?;
    web::believe(&mut mesh, config)?;
    let started_at = Timestamp::now();
    let found = diagnose(&mesh, within, told).await?;
    Ok(Report {
        started_at,
        ended_at: Timestamp::now().max(started_at),
        found,
        evidence: None,
        no_evidence: None,
    })
}

impl Report {
    /// Writes the evidence below `root`, and notes where it is. `commit` is that of the build; without one there is no
    /// evidence, for nobody could tell of what.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_evidence(
        &mut self,
        root: &Path,
        config: &Config,
        commit: Option<&str>,
    ) -> Result<()> {
        let Some(commit) = commit.and_then(|commit| commit.parse::<Commit>().ok()) else {
            self.no_evidence = Some(
                "this program was built outside of a checkout, so its commit is not known"
                    .to_owned(),
            );
            return Ok(());
        };
        match self.bundle(config, &commit).write(root) {
            Ok(place) => {
                let place = place.canonicalize().unwrap_or(place);
                self.evidence = Some(place.display().to_string());
                Ok(())
            }
            Err(fault) => {
                self.no_evidence = Some(fault.message().to_owned());
                Err(fault)
            }
        }
    }

    /// A machine that no relay keeps an address for takes no part.
    ///
    /// # Errors
    /// WC-023, with what to ask for.
    pub fn check_path(&self) -> Result<()> {
        let Some(why) = self
            .found
            .no_path
            .as_ref()
            .filter(|_| self.found.path.is_none())
        else {
            return Ok(());
        };
        let blockers = &self.found.verdict.blockers;
        let ask = blockers
            .first()
            .map_or("name another relay", |blocker| blocker.ask.as_str());
        Err(Fault::wc(WcCode::ReservationAcquisitionFailed, why.clone()).hint(ask.to_owned()))
    }

    fn bundle(&self, config: &Config, commit: &Commit) -> Bundle {
        let trace: Vec<String> = self
            .found
            .probes
            .iter()
            .map(|probe| json!(probe).to_string() + "\n")
            .collect();
        Bundle {
            phase: PHASE,
            metadata: Metadata {
                run_id: run_id(),
                area: Area::firewall_traversal(),
                spec: SPEC.to_owned(),
                git_sha: commit.to_string(),
                software_version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: self.started_at,
                ended_at: self.ended_at,
                machines: vec![Machine::this()],
                env: [
                    ("bootstrap".to_owned(), json!(config.relays().len())),
                    ("doh_only".to_owned(), json!(config.doh_only)),
                    (
                        "allow_ssl_inspection".to_owned(),
                        json!(config.dangerously_allow_ssl_inspection),
                    ),
                ]
                .into(),
            },
            results: self.results(),
            run_log: self.log(),
            trace: Some(trace.concat()),
            index: self.index(),
        }
    }

    fn results(&self) -> Results {
        let has_path = self.found.path.is_some();
        let mut assertions = vec![Assertion {
            name: "a relay keeps an address for this machine".to_owned(),
            expected: json!("a reservation"),
            observed: json!(&self.found.path),
            pass: has_path,
        }];
        assertions.extend(
            ASSERTED
                .iter()
                .filter_map(|(kind, name)| self.asserted(*kind, name)),
        );
        let passes = assertions.iter().all(|assertion| assertion.pass);
        Results {
            overall: match (has_path, passes) {
                (false, _) => Overall::Fail,
                (true, false) => Overall::Partial,
                (true, true) => Overall::Pass,
            },
            assertions,
        }
    }

    /// Whether anything of a kind works; nothing is said of what was not tried.
    fn asserted(&self, kind: ProbeKind, name: &str) -> Option<Assertion> {
        let probes = self.found.probes.iter().filter(|probe| probe.kind == kind);
        let states: Vec<ProbeState> = probes
            .map(|probe| probe.state)
            .filter(|state| *state != ProbeState::Unknown)
            .collect();
        let first = states.first()?;
        let pass = states.contains(&ProbeState::Works);
        Some(Assertion {
            name: name.to_owned(),
            expected: json!(ProbeState::Works),
            observed: json!(if pass { ProbeState::Works } else { *first }),
            pass,
        })
    }

    fn log(&self) -> String {
        let mut log = format!("{} began\n", self.started_at);
        for probe in &self.found.probes {
            let _ = writeln!(log, "{}", line(probe));
        }
        let _ = writeln!(
            log,
            "{} ended: {}",
            self.ended_at, self.found.verdict.summary
        );
        log
    }

    fn index(&self) -> String {
        let Diagnosis { verdict, nat, .. } = &self.found;
        let mut text = format!("# What this network lets through\n\n{}\n", verdict.summary);
        for blocker in &verdict.blockers {
            let _ = write!(
                text,
                "\n## {}\n{}\n\n{}\n",
                blocker.name, blocker.what, blocker.ask
            );
        }
        let _ = write!(
            text,
            "\n## NAT\n`{}`: {}.\n\n`results.json` has what was asserted, `trace.jsonl` every probe. They name addresses of this \
             network and of its resolver: read them before you publish them.\n",
            nat.kind.as_str(),
            nat.reason
        );
        text
    }
}

/// What is asserted of each kind of probe.
const ASSERTED: [(ProbeKind, &str); 7] = [
    (ProbeKind::Udp, "UDP to a relay is answered"),
    (ProbeKind::Quic, "a relay is reached over QUIC"),
    (ProbeKind::Tcp, "a relay is reached over TCP"),
    (ProbeKind::WebTls, "TLS to a relay is opened by nobody"),
    (ProbeKind::Wss, "a relay is reached over WebSocket and TLS"),
    (
        ProbeKind::SystemDns,
        "the system's resolver says what DNS over HTTPS says",
    ),
    (ProbeKind::HttpsDns, "a resolver over HTTPS answers"),
];

/// A probe in one line.
pub fn line(probe: &Probe) -> String {
    let cause = probe.cause.as_ref();
    let cause = cause.map_or_else(String::new, |cause| format!(": {}", visible(cause)));
    format!(
        "{:<10}  {:<9}  {:>8.1} ms  {}{cause}",
        probe.kind.as_str(),
        probe.state.as_str(),
        probe.after_ms,
        visible(&probe.target)
    )
}

/// Text with words of strangers in it: they neither steer a terminal nor pose as another line.
pub fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\'' | '"' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(shown).collect()
}

/// The most seconds that a diagnosis may be given.
pub const MAX_SECONDS: u64 = 3600;

/// How long a diagnosis may take.
///
/// # Errors
/// `invalid_duration` for nothing and for more than [`MAX_SECONDS`].
pub fn duration(seconds: u64) -> Result<Duration> {
    match (1..=MAX_SECONDS).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(Fault::new(
            Category::InvalidInput,
            "invalid_duration",
            format!("{seconds} s is no time for a diagnosis"),
        )
        .hint(format!("give 1 to {MAX_SECONDS} seconds"))),
    }
}

#[cfg(test)]
mod tests {
    use worldcompute_evidence::{Commits, validate};
    use worldcompute_mesh::diagnosis::{
        Blocker, FirstPath, Nat, NatKind, SeenCertificate, Verdict,
    };

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn probe(kind: ProbeKind, state: ProbeState) -> Probe {
        Probe {
            kind,
            target: "/ip4/192.0.2.1/tcp/443/tls/ws".to_owned(),
            state,
            after_ms: 12.5,
            cause: (state != ProbeState::Works).then(|| "why".to_owned()),
            certificate: (state == ProbeState::Inspected).then(|| SeenCertificate {
                sha256: "ab".to_owned(),
                subject: "CN=relay".to_owned(),
                issuer: "CN=corp".to_owned(),
                expected: "another".to_owned(),
            }),
        }
    }

    fn report(probes: Vec<Probe>, has_path: bool) -> Report {
        let blocker = Blocker {
            name: "tls_inspection".to_owned(),
            how: ProbeState::Inspected,
            what: "A box.".to_owned(),
            ask: "Ask.".to_owned(),
        };
        Report {
            started_at: "2026-08-01T10:00:00Z".parse().unwrap(),
            ended_at: "2026-08-01T10:00:05Z".parse().unwrap(),
            found: Diagnosis {
                verdict: Verdict {
                    blocker: blocker.name.clone(),
                    summary: "A box. A daemon.".to_owned(),
                    blockers: vec![blocker],
                },
                path: has_path.then(|| FirstPath {
                    relay: "12D3".to_owned(),
                    transport: "wss".to_owned(),
                    inspected: true,
                    first_reservation_ms: 34,
                }),
                no_path: (!has_path).then(|| "no answer".to_owned()),
                nat: Nat {
                    kind: NatKind::Unknown,
                    observed: vec![],
                    reason: "no relay answered over QUIC".to_owned(),
                },
                probes,
            },
            evidence: None,
            no_evidence: None,
        }
    }

    #[test]
    fn the_shape_of_the_report_is_this() {
        let report = report(
            vec![
                probe(ProbeKind::WebTls, ProbeState::Inspected),
                probe(ProbeKind::Wss, ProbeState::Works),
            ],
            true,
        );
        let golden = json!({
            "started_at": "2026-08-01T10:00:00Z",
            "ended_at": "2026-08-01T10:00:05Z",
            "verdict": {
                "blocker": "tls_inspection",
                "summary": "A box. A daemon.",
                "blockers": [{"name": "tls_inspection", "how": "inspected", "what": "A box.", "ask": "Ask."}],
            },
            "path": {"relay": "12D3", "transport": "wss", "inspected": true, "first_reservation_ms": 34},
            "no_path": null,
            "nat": {"kind": "unknown", "observed": [], "reason": "no relay answered over QUIC"},
            "probes": [
                {
                    "kind": "web_tls",
                    "target": "/ip4/192.0.2.1/tcp/443/tls/ws",
                    "state": "inspected",
                    "after_ms": 12.5,
                    "cause": "why",
                    "certificate": {"sha256": "ab", "subject": "CN=relay", "issuer": "CN=corp", "expected": "another"},
                },
                {"kind": "wss", "target": "/ip4/192.0.2.1/tcp/443/tls/ws", "state": "works", "after_ms": 12.5},
            ],
            "evidence": null,
            "no_evidence": null,
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), golden);
        assert_eq!(serde_json::from_value::<Report>(golden).unwrap(), report);
    }

    #[test]
    fn the_evidence_is_a_bundle_whatever_was_found() {
        let works = probe(ProbeKind::Tcp, ProbeState::Works);
        let silent = probe(ProbeKind::Quic, ProbeState::Silent);
        let unknown = probe(ProbeKind::Udp, ProbeState::Unknown);
        for (probes, has_path, overall) in [
            (vec![works.clone(), unknown.clone()], true, Overall::Pass),
            (vec![works.clone(), silent.clone()], true, Overall::Partial),
            (vec![silent, unknown], false, Overall::Fail),
            (vec![], false, Overall::Fail),
            (vec![works], false, Overall::Fail),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut report = report(probes, has_path);
            report
                .write_evidence(dir.path(), &Config::default(), Some(COMMIT))
                .unwrap();
            let place = report.evidence.unwrap();
            assert!(
                place.ends_with("phase1/firewall-traversal/20260801T100000Z"),
                "{place}"
            );
            let valid = validate(Path::new(&place), Commits::Unchecked).unwrap();
            assert_eq!(valid.results.overall, overall);
        }
    }

    #[test]
    fn without_a_commit_there_is_no_evidence_and_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for commit in [None, Some("unknown")] {
            let mut report = report(vec![], true);
            report
                .write_evidence(dir.path(), &Config::default(), commit)
                .unwrap();
            assert!(report.evidence.is_none() && report.no_evidence.unwrap().contains("commit"));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_finding_is_no_failure_and_no_way_to_any_relay_is_one_with_what_to_ask_for() {
        assert!(report(vec![], true).check_path().is_ok());
        let fault = report(vec![], false).check_path().unwrap_err();
        assert_eq!((fault.exit_code(), fault.hint_text()), (65, "Ask."));
    }

    #[test]
    fn what_strangers_say_cannot_steer_the_terminal() {
        let mut probe = probe(ProbeKind::Wss, ProbeState::Failed);
        probe.cause = Some("a\n\u{1b}[2J\u{202e}b".to_owned());
        assert!(!line(&probe).contains(|c: char| c.is_control() || c == '\u{202e}'));
        assert_eq!(
            visible("the network's \"relay\"\n"),
            "the network's \"relay\"\\n"
        );
    }

    #[test]
    fn a_diagnosis_takes_a_second_at_least_and_an_hour_at_most() {
        for seconds in [1, MAX_SECONDS] {
            assert_eq!(duration(seconds).unwrap().as_secs(), seconds);
        }
        for seconds in [0, MAX_SECONDS + 1] {
            assert_eq!(duration(seconds).unwrap_err().code(), "invalid_duration");
        }
    }
}
