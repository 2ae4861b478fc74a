//! Which credentials a rule trusts a call to hold, going by what the context declares about them, and by what a broker
//! states about the one that it hands out.

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_proof::{Sha256, canonical_json};

use super::Call;
use super::breach::Breach;
use super::matching::admits;
use crate::broker::Credential;
use crate::intent::Context;

/// What a rule says about the credential of the call; serialised, it is the rule's part of the policy digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CredentialClause {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) block_standing_credentials: bool,
    #[serde(
        rename = "AllowedCredentialSources",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) sources: Vec<String>,
    #[serde(
        rename = "AllowedCredentialIssuers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) issuers: Vec<String>,
    #[serde(
        rename = "AllowedCredentialAccessTypes",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) access_types: Vec<String>,
    /// 0 sets no limit.
    #[serde(
        rename = "MaxCredentialTTLSeconds",
        skip_serializing_if = "super::is_zero"
    )]
    pub(crate) max_ttl_seconds: u64,
    #[serde(
        rename = "RequireJITCredential",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) require_jit: bool,
}

/// What somebody says about a credential; empty or 0 where nothing is said.
#[derive(Clone, Copy)]
struct Stated<'a> {
    reference: &'a str,
    source: &'a str,
    access_type: &'a str,
    issuer: &'a str,
    ttl_seconds: u64,
}

/// Access that lasts beyond the call, or might.
const STANDING: [&str; 6] = [
    "",
    "cloud_admin",
    "inherited",
    "standing",
    "static",
    "unknown",
];

const MISSING: &str = "credential_evidence_missing";

impl CredentialClause {
    pub(super) fn breaches<'r>(&'r self, call: &Call<'_>, found: &mut Vec<Breach<'r>>) {
        if self.says_nothing() {
            return;
        }
        let checks = self.checks(Stated::by(call.context));
        let broken = checks.chain(bindings(call)).filter(|(broken, ..)| *broken);
        found.extend(broken.map(|(_, clause, code)| Breach::same(clause, code)));
    }

    /// What it has against the credential that a broker handed out at the time `now`, as stable codes.
    pub(super) fn faults(&self, credential: &Credential, now: Timestamp) -> Vec<&'static str> {
        let broken = self.checks(Stated::of(credential, now));
        let broken = broken.filter(|(broken, ..)| *broken);
        broken.map(|(_, _, code)| code).collect()
    }

    fn checks(&self, stated: Stated<'_>) -> impl Iterator<Item = Check> + use<> {
        let declared = self.declarations(stated).into_iter();
        declared
            .chain(self.lists(stated))
            .chain(self.lifetime(stated))
    }

    pub(super) fn says_nothing(&self) -> bool {
        let lists = [&self.sources, &self.issuers, &self.access_types];
        !self.block_standing_credentials
            && !self.require_jit
            && self.max_ttl_seconds == 0
            && lists.iter().all(|list| list.is_empty())
    }

    fn declarations(&self, stated: Stated<'_>) -> [Check; 5] {
        let access = stated.access_type;
        let standing = STANDING.contains(&access);
        let jit = self.require_jit;
        [
            (
                stated.reference.is_empty() || (jit && access.is_empty()),
                "context.credential_ref",
                MISSING,
            ),
            (
                stated.source.is_empty(),
                "context.credential_source",
                "credential_source_unknown",
            ),
            (
                access.is_empty(),
                "context.credential_access_type",
                "credential_access_type_unknown",
            ),
            (
                jit && !access.is_empty() && access != "jit",
                "require_jit_credential",
                "credential_not_jit",
            ),
            (
                self.block_standing_credentials && standing,
                "block_standing_credentials",
                "standing_credential_disallowed",
            ),
        ]
    }

    fn lists(&self, stated: Stated<'_>) -> [Check; 3] {
        [
            (
                !admits(&self.sources, stated.source),
                "allowed_credential_sources",
                "credential_source_disallowed",
            ),
            (
                !admits(&self.issuers, stated.issuer),
                "allowed_credential_issuers",
                "credential_issuer_disallowed",
            ),
            (
                !admits(&self.access_types, stated.access_type),
                "allowed_credential_access_types",
                "credential_access_type_disallowed",
            ),
        ]
    }

    fn lifetime(&self, stated: Stated<'_>) -> [Check; 2] {
        let limit = self.max_ttl_seconds;
        let ttl = stated.ttl_seconds;
        [
            (
                limit > 0 && ttl == 0,
                "context.credential_ttl_seconds",
                MISSING,
            ),
            (
                limit > 0 && ttl > limit,
                "max_credential_ttl_seconds",
                "credential_ttl_exceeded",
            ),
        ]
    }
}

impl<'a> Stated<'a> {
    fn by(context: &'a Context) -> Self {
        Self {
            reference: &context.credential_ref,
            source: &context.credential_source,
            access_type: &context.credential_access_type,
            issuer: &context.credential_issuer,
            ttl_seconds: u64::try_from(context.credential_ttl_seconds).unwrap_or_default(),
        }
    }

    fn of(credential: &'a Credential, now: Timestamp) -> Self {
        Self {
            reference: &credential.credential_ref,
            source: &credential.source,
            access_type: &credential.access_type,
            issuer: credential.issuer(),
            ttl_seconds: credential.lifetime(now),
        }
    }
}

/// Whether a check fails, in which clause, under which code.
type Check = (bool, &'static str, &'static str);

/// A credential that was issued for something is good for nothing else.
fn bindings(call: &Call<'_>) -> [Check; 3] {
    let context = call.context;
    let to_targets = &context.credential_target_binding;
    let differ =
        |bound: &str, actual: &str| !bound.is_empty() && !actual.is_empty() && bound != actual;
    [
        (
            !to_targets.is_empty() && target_binding(call).as_ref() != Some(to_targets),
            "context.credential_target_binding",
            "credential_target_binding_mismatch",
        ),
        (
            differ(&context.credential_run_binding, &context.run_id),
            "context.credential_run_binding",
            "credential_run_binding_mismatch",
        ),
        (
            differ(&context.credential_job_binding, &context.job_id),
            "context.credential_job_binding",
            "credential_job_binding_mismatch",
        ),
    ]
}

/// What a credential for exactly these targets is bound to.
fn target_binding(call: &Call<'_>) -> Option<String> {
    let bytes = canonical_json(call.targets).ok()?;
    Some(Sha256::of(bytes).to_string())
}
