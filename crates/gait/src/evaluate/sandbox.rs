//! Which sandboxes a rule trusts to run a call in, going by what the context declares.

use serde::Serialize;

use super::breach::Breach;
use super::matching::{admits, contains};
use crate::intent::Sandbox;

/// The sandbox clause of a rule; serialised, it is the rule's `Sandbox` of the policy digest.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SandboxClause {
    /// Always true: a clause that is not enabled is none.
    pub(crate) enabled: bool,
    pub(crate) allowed_network_modes: Vec<String>,
    pub(crate) allowed_writable_path_prefixes: Vec<String>,
    pub(crate) required_read_only_roots: Vec<String>,
    pub(crate) allowed_env_exposure_modes: Vec<String>,
    /// 0 sets no limit.
    pub(crate) max_timeout_seconds: u64,
    pub(crate) allowed_filesystem_isolations: Vec<String>,
    pub(crate) allowed_user_modes: Vec<String>,
}

/// What a sandbox clause says; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SandboxDecision {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub env_exposure_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filesystem_isolation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Why the sandbox is not trusted, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<&'static str>,
    /// Whether it is trusted.
    pub status: SandboxStatus,
    #[serde(skip_serializing_if = "super::is_zero")]
    pub timeout_seconds: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_mode: String,
}

/// Whether a sandbox is trusted; the order runs from the mildest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxStatus {
    /// It is all that the clause asks for.
    #[default]
    Valid,
    /// It is something that the clause does not allow.
    Disallowed,
    /// Something that the clause asks for is not declared.
    Missing,
}

/// A fault of a sandbox: the key of the clause, and the code.
type Fault = (&'static str, &'static str);

impl SandboxClause {
    /// Whether it does more than exist.
    pub(crate) fn says_something(&self) -> bool {
        let lists = [
            &self.allowed_network_modes,
            &self.allowed_writable_path_prefixes,
            &self.required_read_only_roots,
            &self.allowed_env_exposure_modes,
            &self.allowed_filesystem_isolations,
            &self.allowed_user_modes,
        ];
        self.max_timeout_seconds > 0 || lists.iter().any(|list| !list.is_empty())
    }

    /// What the clause says to `sandbox`, noting a breach for each fault.
    pub(super) fn decide(
        &self,
        sandbox: Option<&Sandbox>,
        found: &mut Vec<Breach<'_>>,
    ) -> SandboxDecision {
        let faults = match sandbox {
            None => vec![("sandbox", "sandbox_metadata_missing")],
            Some(sandbox) => self.faults(sandbox),
        };
        found.extend(
            faults
                .iter()
                .map(|(clause, code)| Breach::same(clause, code)),
        );
        let mut reason_codes: Vec<_> = faults.iter().map(|(_, code)| *code).collect();
        reason_codes.sort_unstable();
        SandboxDecision {
            status: status(&reason_codes),
            reason_codes,
            ..sandbox.map(SandboxDecision::echo).unwrap_or_default()
        }
    }

    fn faults(&self, sandbox: &Sandbox) -> Vec<Fault> {
        let evidenced = !sandbox.evidence_ref.is_empty() && !sandbox.evidence_digest.is_empty();
        let mut faults = Vec::new();
        if !evidenced {
            faults.push(("sandbox.evidence", "sandbox_evidence_missing"));
        }
        faults.extend(self.modes(sandbox).into_iter().flatten());
        faults.extend(self.timeout(sandbox.timeout_seconds));
        faults.extend(self.paths(sandbox));
        faults
    }

    fn modes(&self, sandbox: &Sandbox) -> [Option<Fault>; 4] {
        [
            mode(
                &self.allowed_network_modes,
                &sandbox.network_mode,
                "sandbox.allowed_network_modes",
                [
                    "sandbox_network_mode_missing",
                    "sandbox_network_mode_disallowed",
                ],
            ),
            mode(
                &self.allowed_env_exposure_modes,
                &sandbox.env_exposure_mode,
                "sandbox.allowed_env_exposure_modes",
                [
                    "sandbox_env_exposure_mode_missing",
                    "sandbox_env_exposure_mode_disallowed",
                ],
            ),
            mode(
                &self.allowed_filesystem_isolations,
                &sandbox.filesystem_isolation,
                "sandbox.allowed_filesystem_isolations",
                [
                    "sandbox_filesystem_isolation_missing",
                    "sandbox_filesystem_isolation_disallowed",
                ],
            ),
            mode(
                &self.allowed_user_modes,
                &sandbox.user_mode,
                "sandbox.allowed_user_modes",
                ["sandbox_user_mode_missing", "sandbox_user_mode_disallowed"],
            ),
        ]
    }

    fn timeout(&self, seconds: i64) -> Option<Fault> {
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let code = match self.max_timeout_seconds {
            _ if seconds == 0 => "sandbox_timeout_missing",
            limit if limit > 0 && seconds > limit => "sandbox_timeout_exceeded",
            _ => return None,
        };
        Some(("sandbox.max_timeout_seconds", code))
    }

    /// The first writable path that is below none of the allowed prefixes.
    pub(crate) fn foreign_writable_path<'s>(&self, sandbox: &'s Sandbox) -> Option<&'s str> {
        let prefixes = &self.allowed_writable_path_prefixes;
        let allowed = |path: &&String| prefixes.iter().any(|prefix| is_below(path, prefix));
        let mut foreign = sandbox.writable_paths.iter().filter(|path| !allowed(path));
        let first = foreign.next().filter(|_| !prefixes.is_empty());
        first.map(String::as_str)
    }

    /// The first required root that is not read-only.
    pub(crate) fn missing_root(&self, sandbox: &Sandbox) -> Option<&str> {
        let roots = &sandbox.read_only_roots;
        let mut required = self.required_read_only_roots.iter();
        let missing = required.find(|root| !contains(roots, root));
        missing.map(String::as_str)
    }

    fn paths(&self, sandbox: &Sandbox) -> impl Iterator<Item = Fault> {
        let writable = self.foreign_writable_path(sandbox).is_none();
        let rooted = self.missing_root(sandbox).is_none();
        let faults = [
            (
                writable,
                "sandbox.allowed_writable_path_prefixes",
                "sandbox_writable_path_disallowed",
            ),
            (
                rooted,
                "sandbox.required_read_only_roots",
                "sandbox_read_only_root_missing",
            ),
        ];
        faults
            .into_iter()
            .filter_map(|(holds, clause, code)| (!holds).then_some((clause, code)))
    }
}

/// Whether everything about the sandbox is declared, so that a clause without lists trusts it.
pub(super) fn is_declared(sandbox: Option<&Sandbox>) -> bool {
    let bare = SandboxClause::default();
    sandbox.is_some_and(|sandbox| bare.faults(sandbox).is_empty())
}

fn mode(
    allowed: &[String],
    actual: &str,
    clause: &'static str,
    [missing, disallowed]: [&'static str; 2],
) -> Option<Fault> {
    match actual {
        "" => Some((clause, missing)),
        actual if !admits(allowed, actual) => Some((clause, disallowed)),
        _ => None,
    }
}

/// Whether the cleaned `path` is the cleaned directory `prefix` or inside it.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn status(codes: &[&str]) -> SandboxStatus {
    match codes {
        [] => SandboxStatus::Valid,
        codes if codes.iter().any(|code| code.ends_with("_missing")) => SandboxStatus::Missing,
        _ => SandboxStatus::Disallowed,
    }
}

impl SandboxDecision {
    fn echo(sandbox: &Sandbox) -> Self {
        Self {
            env_exposure_mode: sandbox.env_exposure_mode.clone(),
            evidence_digest: sandbox.evidence_digest.clone(),
            evidence_ref: sandbox.evidence_ref.clone(),
            filesystem_isolation: sandbox.filesystem_isolation.clone(),
            network_mode: sandbox.network_mode.clone(),
            timeout_seconds: sandbox.timeout_seconds,
            user_mode: sandbox.user_mode.clone(),
            ..Self::default()
        }
    }

    /// The stricter of two decisions; of equally strict ones, that with the smaller digest.
    pub(super) fn stricter(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let Some((a, b)) = a.as_ref().zip(b.as_ref()) else {
            return a.or(b);
        };
        let by_digest = || b.evidence_digest.cmp(&a.evidence_digest);
        let first = a.status.cmp(&b.status).then_with(by_digest).is_ge();
        Some(if first { a } else { b }.clone())
    }
}
