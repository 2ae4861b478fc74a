//! One cell of the scoreboard: a relay, a donor behind one gate, a submitter behind the other, and a whole job.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::claim::Claim;
use super::names::RELAY;
use super::nat::Nat;
use super::node::{ANSWER_TIME, Dial, Node, run_for, text};
use super::profile::Profile;
use super::stop::Stop;
use super::world::{DOH, World};
use crate::shell::{Failure, Result};

/// From the start of donor and submitter to a verified result.
const JOB_TIME: Duration = Duration::from_secs(45);
/// In which a relayed connection becomes a direct one, or stays. Three attempts at a hole take 15 s.
const SETTLE_TIME: Duration = Duration::from_secs(20);
/// In which a connection that has no better way left stays what it is.
const STAY_TIME: Duration = Duration::from_secs(2);
/// For a job that is not to pass.
const REFUSED_TIME: Duration = Duration::from_secs(5);
/// Between two looks at how the peers are connected.
const LOOK: Duration = Duration::from_millis(250);
/// What the job prints.
const SAYS: &str = "hello\n";

/// Two sites, and the firewall of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The donor's NAT, and the submitter's.
    pub nats: [Nat; 2],
    /// The firewall at both.
    pub profile: Profile,
}

/// How the two came to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Direct,
    HolePunched,
    Relayed,
    /// Nothing passed, as it is to be: both said that somebody opens their TLS, which nobody had allowed.
    Refused,
    Failed,
}

/// What came of a cell.
pub struct Played {
    pub cell: Cell,
    pub outcome: Outcome,
    /// The way of the first result, by its receipt.
    pub first: Option<Outcome>,
    /// Over which transports, by the logs: between the two, or of each to the relay.
    pub transport: String,
    /// From the start of donor and submitter to the first verified result.
    pub first_result: Option<Duration>,
    /// Why it failed.
    pub why: String,
}

/// What is tried.
pub struct Trial {
    /// The program `worldcompute`.
    pub program: PathBuf,
    /// A job that prints [`SAYS`].
    pub manifest: PathBuf,
    /// How far everything is from everything.
    pub rtt: Duration,
}

impl Trial {
    /// The checkout's first example on that program.
    ///
    /// # Errors
    /// When there is no such example.
    pub fn of(root: &Path, program: PathBuf, rtt: Duration) -> Result<Self> {
        let manifest = root.join("examples/hello/job.yaml");
        let manifest = manifest
            .canonicalize()
            .map_err(|error| Failure::new(format!("{}: {error}", manifest.display())))?;
        Ok(Self {
            program,
            manifest,
            rtt,
        })
    }
}

/// Plays a cell.
///
/// # Errors
/// When the lab itself fails; what the nodes fail at is an outcome.
pub fn play(claim: &Claim, label: &str, cell: Cell, trial: &Trial, stop: &Stop) -> Result<Played> {
    let world = World::make(claim, label, cell, trial.rtt)?;
    let home = |name: &str| claim.dir(&format!("{label}/{name}"));
    let start = |namespace, name: &str, arguments: &[&str]| {
        Node::start(namespace, &trial.program, home(name)?, arguments, stop)
    };
    let failed = |who: &str, why: String| Ok(Played::failed(cell, format!("{who}: {why}")));

    let relays = ["relay", "--no-mdns", "--wss-listen"];
    let relay = match start(&world.relay.namespace, "relay", &relays)? {
        Ok(relay) => relay,
        Err(why) => return failed("relay", why),
    };
    let join = joining(&world, cell.profile, &relay);
    let join: Vec<&str> = join.iter().map(String::as_str).collect();

    let begun = Instant::now();
    let [donor_site, submitter_site] = &world.sites;
    let donor = match start(&donor_site.host, "donor", &join)? {
        Ok(donor) => donor,
        Err(why) => return failed("donor", why),
    };
    // It consents to nothing that the job is: the job has to go to the donor.
    let join = [&join[..], &["--consent", "rendering"]].concat();
    let submitter = match start(&submitter_site.host, "submitter", &join)? {
        Ok(submitter) => submitter,
        Err(why) => return failed("submitter", why),
    };
    let two = Two {
        relay: &relay,
        donor: &donor,
        submitter: &submitter,
        profile: cell.profile,
        trial,
        stop,
    };
    two.outcome(cell, begun)
}

/// How a node joins: by the public addresses of the relay, or by its name.
pub fn joining(world: &World, profile: Profile, relay: &Node) -> Vec<String> {
    let public = format!("/ip4/{}/", world.relay.addresses[0]);
    let addresses = relay.addresses.iter().map(String::as_str);
    let addresses: Vec<&str> = addresses
        .filter(|address| address.starts_with(&public))
        .collect();
    let bootstrap = match profile.by_name() {
        true => format!("/dnsaddr/{RELAY}"),
        false => addresses.join(","),
    };
    world.publish(&addresses);
    let doh = format!("{DOH}@{}", world.doh.addresses[0]);
    let authorities = world.authorities.display().to_string();
    let join = ["donor", "join", "--no-mdns", "--bootstrap", &bootstrap];
    let names = ["--doh", &doh, "--doh-authorities", &authorities];
    let inspection: &[&str] = match profile.trusts_inspection() {
        true => &["--allow-ssl-inspection"],
        false => &[],
    };
    let words = [&join[..], &names[..], inspection].concat();
    words.into_iter().map(String::from).collect()
}

/// The nodes of a cell, all up.
struct Two<'a> {
    relay: &'a Node<'a>,
    donor: &'a Node<'a>,
    submitter: &'a Node<'a>,
    profile: Profile,
    trial: &'a Trial,
    stop: &'a Stop,
}

impl Two<'_> {
    fn outcome(&self, cell: Cell, begun: Instant) -> Result<Played> {
        if self.profile.inspects() && !self.profile.trusts_inspection() {
            return self.refusal(cell);
        }
        let first = match self.job(JOB_TIME)? {
            Ok(way) => way,
            Err(why) => return Ok(Played::failed(cell, why)),
        };
        let first_result = Some(begun.elapsed());
        let played = |outcome, transport, why| Played {
            cell,
            outcome,
            first: Some(first),
            transport,
            first_result,
            why,
        };
        if !self.settles(first)? {
            return Ok(played(first, self.transport(first), String::new()));
        }
        // The better way has to carry a job, too.
        Ok(match self.job(JOB_TIME)? {
            Ok(way) => played(way, self.transport(way), String::new()),
            Err(why) => played(
                Outcome::Failed,
                String::new(),
                format!("after the way changed: {why}"),
            ),
        })
    }

    /// Where TLS is opened and nobody allowed that, both sides say so and nothing passes.
    fn refusal(&self, cell: Cell) -> Result<Played> {
        let refused = |node: &Node| {
            let mut dials = node.dials().into_iter();
            dials.any(|dial| dial.outcome == "Denied" && dial.root_cause.contains("inspected"))
        };
        let both = || [self.donor, self.submitter].into_iter().all(refused);
        let deadline = Instant::now() + SETTLE_TIME;
        while !both() && Instant::now() < deadline {
            self.stop.wait(LOOK)?;
        }
        if self.job(REFUSED_TIME)?.is_ok() {
            let why = "a job passed through TLS that is opened on the way, and nobody allowed that";
            return Ok(Played::failed(cell, why.to_owned()));
        }
        Ok(match both() {
            true => Played::refused(cell),
            false => Played::failed(cell, self.why_not()?),
        })
    }

    /// A whole job, its result read and its evidence verified offline; the way it went, by its receipt.
    fn job(&self, time: Duration) -> Result<std::result::Result<Outcome, String>> {
        let manifest = self.trial.manifest.display().to_string();
        let job =
            self.submitter
                .ask_json(&["job", "submit", &manifest, "--watch"], time, self.stop)?;
        if job.is_null() {
            return Ok(Err(self.why_not()?));
        }
        if !text(&job, "error").is_empty() {
            return Ok(Err(text(&job, "error")));
        }
        let ran = job
            .get("executors")
            .and_then(|all| all.get(&self.donor.peer))
            .is_some();
        let verified = job.get("receipt_verified").and_then(Value::as_bool) == Some(true);
        if text(&job, "status") != "completed" || !ran || !verified {
            return Ok(Err(format!("the job ended otherwise: {job}")));
        }
        let id = text(&job, "job_id");
        let said = self
            .submitter
            .ask(&["job", "results", &id], ANSWER_TIME, self.stop)?;
        let said = said.map(|said| said.out);
        if said.as_deref() != Some(SAYS) {
            return Ok(Err(format!("the result is {said:?}")));
        }
        self.verified(Path::new(&text(&job, "evidence")))
    }

    fn verified(&self, evidence: &Path) -> Result<std::result::Result<Outcome, String>> {
        let mut verify = Command::new(&self.trial.program);
        verify
            .arg("verify")
            .arg(evidence)
            .args(["--json", "--executor", &self.donor.peer]);
        verify.args(["--submitter", &self.submitter.peer]);
        let verdict = run_for(verify, ANSWER_TIME, self.stop)?.map(|said| said.json());
        let verdict = verdict.unwrap_or_default();
        if verdict.get("ok").and_then(Value::as_bool) != Some(true) {
            return Ok(Err(format!("the evidence does not verify: {verdict}")));
        }
        let marked = verdict.get("inspected").is_some();
        if marked != self.profile.trusts_inspection() {
            return Ok(Err(format!(
                "the receipt's mark of inspection is wrong: {verdict}"
            )));
        }
        Ok(way_of(&evidence.join("receipts/00000.json")))
    }

    /// Whether a relayed connection became another one in time.
    fn settles(&self, first: Outcome) -> Result<bool> {
        let time = match self.profile.leaves_holes() {
            true => SETTLE_TIME,
            false => STAY_TIME,
        };
        let deadline = Instant::now() + time;
        while first == Outcome::Relayed && Instant::now() < deadline {
            let peers = self
                .submitter
                .ask_json(&["cluster", "peers"], ANSWER_TIME, self.stop)?;
            let peers = peers.as_array().cloned().unwrap_or_default();
            let donor = peers
                .iter()
                .find(|peer| text(peer, "peer_id") == self.donor.peer);
            let way = donor.and_then(|donor| Outcome::parse(&text(donor, "path")));
            if way.is_some_and(|way| way != first) {
                return Ok(true);
            }
            self.stop.wait(LOOK)?;
        }
        Ok(false)
    }

    fn transport(&self, way: Outcome) -> String {
        let last = |node: &Node, to: &Node| {
            let made = |dial: &Dial| {
                dial.outcome == "Success" && dial.peer == to.peer && dial.transport != "circuit"
            };
            let last = node.dials().into_iter().rfind(made);
            last.map(|dial| dial.transport)
        };
        let of = |transport: Option<String>| transport.unwrap_or_else(|| "?".to_owned());
        match way {
            Outcome::Relayed => {
                let [donor, submitter] =
                    [self.donor, self.submitter].map(|node| of(last(node, self.relay)));
                format!("{donor} + {submitter}")
            }
            _ => of(last(self.submitter, self.donor).or_else(|| last(self.donor, self.submitter))),
        }
    }

    /// Why there is no result: what the job waits for, and what each side last dialled in vain.
    fn why_not(&self) -> Result<String> {
        let jobs = self
            .submitter
            .ask_json(&["job", "list"], ANSWER_TIME, self.stop)?;
        let last = jobs
            .as_array()
            .and_then(|jobs| jobs.last())
            .cloned()
            .unwrap_or_default();
        let waits = match text(&last, "reason") {
            reason if reason.is_empty() => format!("no result in {} s", JOB_TIME.as_secs()),
            reason => reason,
        };
        let sides = [("donor", self.donor), ("submitter", self.submitter)];
        let vain = sides.map(|(name, node)| format!("; {name} {}", in_vain(&node.dials())));
        Ok(waits + &vain.concat())
    }
}

/// What was dialled and never answered, each transport once.
fn in_vain(dials: &[Dial]) -> String {
    let mut causes: Vec<String> = Vec::new();
    for dial in dials.iter().filter(|dial| dial.outcome != "Success") {
        let cause = format!("{} {}: {}", dial.transport, dial.outcome, dial.root_cause);
        if !causes.contains(&cause) && !dial.address.contains("127.0.0.1") {
            causes.push(cause);
        }
    }
    match causes.is_empty() {
        true => "dialled nothing in vain".to_owned(),
        false => causes.join(", "),
    }
}

/// The way that a receipt tells.
fn way_of(receipt: &Path) -> std::result::Result<Outcome, String> {
    let broken = |what: &str| format!("{}: {what}", receipt.display());
    let envelope = std::fs::read(receipt).map_err(|error| broken(&error.to_string()))?;
    let envelope: Value = serde_json::from_slice(&envelope).map_err(|_| broken("no JSON"))?;
    let payload = STANDARD
        .decode(text(&envelope, "payload"))
        .map_err(|_| broken("no payload"))?;
    let statement: Value = serde_json::from_slice(&payload).map_err(|_| broken("no statement"))?;
    let way = statement
        .get("predicate")
        .map(|predicate| text(predicate, "path"));
    let way = way.unwrap_or_default();
    Outcome::parse(&way).ok_or_else(|| broken(&format!("an unknown way {way:?}")))
}

impl Played {
    fn failed(cell: Cell, why: String) -> Self {
        Self {
            why,
            outcome: Outcome::Failed,
            ..Self::refused(cell)
        }
    }

    fn refused(cell: Cell) -> Self {
        Self {
            cell,
            outcome: Outcome::Refused,
            first: None,
            transport: String::new(),
            first_result: None,
            why: String::new(),
        }
    }
}

impl Outcome {
    /// Every outcome, the best first.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::HolePunched,
        Self::Relayed,
        Self::Refused,
        Self::Failed,
    ];

    /// As receipts and scoreboards have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HolePunched => "hole_punched",
            Self::Relayed => "relayed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let ways = [Self::Direct, Self::HolePunched, Self::Relayed];
        ways.into_iter().find(|way| way.name() == name)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [donor, submitter] = self.nats.map(Nat::name);
        write!(f, "{donor},{submitter} {}", self.profile.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_failing_is_told_once() {
        let dial = |address: &str, transport: &str, outcome: &str| Dial {
            peer: String::new(),
            address: address.to_owned(),
            transport: transport.to_owned(),
            outcome: outcome.to_owned(),
            root_cause: "why".to_owned(),
        };
        let dials = [
            dial("/ip4/20.0.1.10/tcp/1", "tcp", "Timeout"),
            dial("/ip4/20.0.1.10/tcp/1", "tcp", "Timeout"),
            dial("/ip4/127.0.0.1/udp/1", "quic", "TransportError"),
            dial("/ip4/20.0.1.10/udp/1", "quic", "Success"),
        ];
        assert_eq!(in_vain(&dials), "tcp Timeout: why");
        assert_eq!(in_vain(&[]), "dialled nothing in vain");
    }

    #[test]
    fn a_receipt_tells_its_way_or_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipt.json");
        let write = |payload: &str| {
            let envelope = serde_json::json!({ "payload": STANDARD.encode(payload) });
            let file = std::fs::File::create(&path).unwrap();
            serde_json::to_writer(file, &envelope).unwrap();
        };
        write(r#"{"predicate":{"path":"hole_punched"}}"#);
        assert_eq!(way_of(&path), Ok(Outcome::HolePunched));
        for payload in [r#"{"predicate":{"path":"failed"}}"#, "{}", "["] {
            write(payload);
            assert!(way_of(&path).is_err(), "{payload}");
        }
    }
}
