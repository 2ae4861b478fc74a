//! Which servers tools may come from: the policy's `mcp_trust` clause against a snapshot of what is known of servers.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use crate::duration;
use crate::evaluate::Evaluation;
use crate::limits::{MAX_SNAPSHOT_BYTES, invalid};
use crate::policy::why_not::Cause;
use crate::text;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// The `schema_id` of a snapshot.
pub const SCHEMA_ID: &str = "gait.mcp.trust_snapshot";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// The `mcp_trust` clause of a policy; serialised, it is its part of the policy digest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct McpTrust {
    /// Always true: a clause that is not enabled is none.
    pub(crate) enabled: bool,
    /// Where the snapshot is.
    #[serde(rename = "SnapshotPath")]
    pub snapshot: String,
    /// What a server that is not trusted raises the verdict to.
    pub action: Verdict,
    /// The risk classes for which the clause is enforced.
    pub required_risk_classes: Vec<String>,
    /// The least score, from 0 to 1.
    pub min_score: f64,
    /// How long an entry stays good.
    #[serde(serialize_with = "span")]
    pub max_age: Option<SignedDuration>,
    /// The publishers that are trusted; none listed trusts all.
    pub publisher_allowlist: Vec<String>,
    /// Whether the entry has to come from a verified registry pack.
    pub require_registry: bool,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn span<S: Serializer>(
    span: &Option<SignedDuration>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&span.map(duration::format).unwrap_or_default())
}

/// A server as a call names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its id.
    pub server_id: String,
    /// Its name, which stands for the id where there is none.
    pub server_name: String,
    /// Who publishes it.
    pub publisher: String,
    /// Where it was found.
    pub source: String,
}

/// What is known of servers (`gait.mcp.trust_snapshot`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(flatten)]
    server: Server,
    status: String,
    updated_at: WireTime,
    score: f64,
    evidence_path: String,
    registry_verification: Option<RegistryVerification>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RegistryVerification {
    signature_verified: bool,
    publisher_allowed: bool,
    pin_present: bool,
    pin_verified: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    schema_id: String,
    schema_version: String,
    entries: Vec<Entry>,
}

/// What the clause says to one server; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrustDecision {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision_source: String,
    /// Whether the verdict follows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enforced: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub max_age_seconds: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publisher: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publisher_allowed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub registry_verified: bool,
    /// Whether the clause is enforced for this risk class.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub score: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// `trusted`, or in which way not.
    pub status: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pub threshold: f64,
    /// When the entry was made; the format writes it even when unset.
    pub updated_at: WireTime,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl Snapshot {
    /// Reads a snapshot; `invalid_input` for anything else, and for a server that two entries name.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value = parse_json_within(bytes, MAX_SNAPSHOT_BYTES)
            .map_err(|fault| invalid(format!("parse trust snapshot: {fault}")))?;
        if !value.is_object() {
            return Err(invalid("parse trust snapshot: not an object"));
        }
        let file: File = serde_json::from_value(value)
            .map_err(|error| invalid("parse trust snapshot").caused_by(error))?;
        known("schema_id", &file.schema_id, SCHEMA_ID)?;
        known("schema_version", &file.schema_version, SCHEMA_VERSION)?;
        let mut entries = file.entries;
        if entries.iter().any(|entry| entry.server.key().is_empty()) {
            return Err(invalid(
                "trust snapshot: every entry requires server_id or server_name",
            ));
        }
        entries.sort_by_key(|entry| entry.server.key());
        let same = |pair: &[Entry]| matches!(pair, [a, b] if a.server.key() == b.server.key());
        if entries.windows(2).any(same) {
            return Err(invalid("trust snapshot: two entries are about one server"));
        }
        Ok(Self { entries })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let place = self
            .entries
            .binary_search_by(|entry| entry.server.key().as_str().cmp(key));
        self.entries.get(place.ok()?)
    }
}

fn known(what: &str, given: &str, only: &str) -> Result<()> {
    match given.trim() {
        "" => Ok(()),
        given if given == only => Ok(()),
        given => Err(invalid(format!(
            "unsupported trust snapshot {what}: {given}"
        ))),
    }
}

impl Server {
    fn key(&self) -> String {
        let id = text::trim_lower(&self.server_id);
        if id.is_empty() {
            return text::trim_lower(&self.server_name);
        }
        id
    }
}

impl McpTrust {
    /// What the clause says at `at` to `server`, called with `risk_class`; no snapshot means it could not be had.
    pub fn judge(
        &self,
        server: Option<&Server>,
        risk_class: &str,
        snapshot: Option<&Snapshot>,
        at: Timestamp,
    ) -> TrustDecision {
        let mut decision = self.unjudged(server, risk_class);
        let key = server.map(Server::key).unwrap_or_default();
        let entry = snapshot.and_then(|snapshot| snapshot.entry(&key));
        match (snapshot, entry) {
            _ if key.is_empty() => decision.miss("missing", "mcp_trust_identifier_missing"),
            (None, _) => decision.miss("missing", "mcp_trust_snapshot_unavailable"),
            (_, None) => decision.miss("unknown", "mcp_trust_server_unknown"),
            (_, Some(entry)) => self.weigh(entry, at, &mut decision),
        }
        decision.enforced = decision.required && decision.status != TRUSTED;
        decision
    }

    /// Raises `evaluation` as `decision` asks.
    pub fn apply(&self, decision: &TrustDecision, evaluation: &mut Evaluation) {
        for code in &decision.reason_codes {
            evaluation.note(code);
        }
        if decision.enforced {
            evaluation.raise(self.action);
            evaluation.violate("mcp_trust_policy");
        }
    }

    /// What `decision` denies, by this clause.
    pub(crate) fn causes(&self, decision: &TrustDecision) -> Vec<Cause> {
        let codes = decision.reason_codes.iter().filter(|_| decision.enforced);
        let cause = |code: &&str| Cause {
            clause: "mcp_trust".to_owned(),
            reason_code: (*code).to_owned(),
            rule: String::new(),
            step: None,
            verdict: self.action,
        };
        codes.map(cause).collect()
    }

    fn unjudged(&self, server: Option<&Server>, risk_class: &str) -> TrustDecision {
        let server = server.cloned().unwrap_or_default();
        let risk_class = text::trim_lower(risk_class);
        TrustDecision {
            decision_source: self.snapshot.clone(),
            max_age_seconds: self.max_age.map_or(0, |span| span.as_secs()),
            required: self.required_risk_classes.contains(&risk_class),
            threshold: self.min_score,
            ..TrustDecision::default()
        }
        .about(&server)
    }

    fn weigh(&self, entry: &Entry, at: Timestamp, decision: &mut TrustDecision) {
        *decision = std::mem::take(decision).about(&entry.server);
        decision.score = entry.score;
        decision.updated_at = entry.updated_at;
        if !entry.evidence_path.trim().is_empty() {
            entry
                .evidence_path
                .trim()
                .clone_into(&mut decision.decision_source);
        }
        let allowlist = &self.publisher_allowlist;
        decision.publisher_allowed =
            !allowlist.is_empty() && allowlist.contains(&decision.publisher);
        decision.registry_verified = self.require_registry && entry.is_registered();
        let faults = self.faults(entry, at, decision);
        decision.status = faults.first().map_or(TRUSTED, |(status, _)| status);
        decision.reason_codes = faults.into_iter().map(|(_, code)| code).collect();
        decision.reason_codes.sort_unstable();
        if decision.reason_codes.is_empty() {
            decision.reason_codes.push("mcp_trust_verified");
        }
    }

    /// What is wrong with `entry`: the status and the code of each fault.
    fn faults(
        &self,
        entry: &Entry,
        at: Timestamp,
        decision: &TrustDecision,
    ) -> Vec<(&'static str, &'static str)> {
        let status = text::trim_lower(&entry.status);
        let untrusted = !matches!(status.as_str(), "" | "trusted" | "allow" | "pass");
        let stranger = !self.publisher_allowlist.is_empty() && !decision.publisher_allowed;
        let unregistered = self.require_registry && !decision.registry_verified;
        let stale = self.max_age.is_some_and(|span| !entry.is_fresh(span, at));
        let faults = [
            (untrusted, "untrusted", "mcp_trust_status_untrusted"),
            (stranger, "untrusted", "mcp_trust_publisher_untrusted"),
            (unregistered, "invalid", "mcp_trust_registry_unverified"),
            (stale, "stale", "mcp_trust_stale"),
            (
                entry.score < self.min_score,
                "below_threshold",
                "mcp_trust_below_threshold",
            ),
        ];
        faults
            .into_iter()
            .filter(|(holds, ..)| *holds)
            .map(|(_, status, code)| (status, code))
            .collect()
    }
}

const TRUSTED: &str = "trusted";
/// How far the clock of who wrote a snapshot may be ahead.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

impl Entry {
    fn is_registered(&self) -> bool {
        self.registry_verification.is_some_and(|verified| {
            verified.signature_verified
                && verified.publisher_allowed
                && (!verified.pin_present || verified.pin_verified)
        })
    }

    /// Whether the entry is at most `span` old; one from the future has no age that could be small enough, unless clocks
    /// may differ by so little.
    fn is_fresh(&self, span: SignedDuration, at: Timestamp) -> bool {
        let age = self
            .updated_at
            .get()
            .map(|updated| at.duration_since(updated));
        age.is_some_and(|age| age <= span && age >= -MAX_SKEW)
    }
}

impl TrustDecision {
    fn about(self, server: &Server) -> Self {
        Self {
            server_id: server.server_id.trim().to_owned(),
            server_name: server.server_name.trim().to_owned(),
            publisher: text::trim_lower(&server.publisher),
            source: text::trim_lower(&server.source),
            ..self
        }
    }

    fn miss(&mut self, status: &'static str, code: &'static str) {
        self.status = status;
        self.reason_codes.push(code);
    }
}

#[cfg(test)]
mod tests;
