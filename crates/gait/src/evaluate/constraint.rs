//! Where a rule's call may reach: paths, domains, network classes, destruction.

use serde::{Serialize, Serializer};
use worldcompute_fault::Result;

use super::Call;
use super::breach::Breach;
use super::glob::Glob;
use super::matching::admits;
use super::readings;
use crate::host;
use crate::intent::{Target, infer_domain};
use crate::limits::invalid;
use crate::text;
use crate::verdict::Verdict;

/// The endpoint constraint of a rule; serialised, it is the rule's `Endpoint` of the policy digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Constraint {
    /// Always true: a constraint that is not enabled is none.
    pub(crate) enabled: bool,
    pub(crate) path_allowlist: Patterns,
    pub(crate) path_denylist: Patterns,
    pub(crate) domain_allowlist: Patterns,
    pub(crate) domain_denylist: Patterns,
    pub(crate) egress_classes: Vec<String>,
    pub(crate) action: Verdict,
    #[serde(serialize_with = "verdict_or_nothing")]
    pub(crate) destructive_action: Option<Verdict>,
    pub(crate) reason_code: String,
    pub(crate) violation: String,
}

fn verdict_or_nothing<S: Serializer>(
    verdict: &Option<Verdict>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.map_or("", Verdict::as_str))
}

impl Constraint {
    /// Whether it does more than exist.
    pub(crate) fn says_something(&self) -> bool {
        let lists = [
            &self.path_allowlist,
            &self.path_denylist,
            &self.domain_allowlist,
            &self.domain_denylist,
        ];
        !self.egress_classes.is_empty()
            || self.destructive_action.is_some()
            || lists.iter().any(|list| !list.is_empty())
    }

    /// Notes every way in which `call` leaves the constraint.
    pub(super) fn breaches<'r>(&'r self, call: &Call<'_>, found: &mut Vec<Breach<'r>>) {
        let before = found.len();
        let mut action = self.action;
        let mut note = |clause, reason, violation| {
            found.push(Breach::block(clause, reason, violation));
        };
        for (clause, code) in call
            .targets
            .iter()
            .flat_map(|target| self.violations(target))
            .flatten()
        {
            note(clause, code, code);
        }
        if let Some(destructive) = self.destructive_action.filter(|_| call.is_destructive()) {
            action = action.max(destructive);
            note(
                "endpoint.destructive_action",
                "endpoint_destructive_operation",
                "destructive_operation",
            );
        }
        if let Some(first) = found.get(before).map(|breach| breach.clause) {
            found.push(Breach::block(first, &self.reason_code, &self.violation));
        }
        for breach in found.iter_mut().skip(before) {
            breach.verdict = action;
        }
    }

    /// The clauses that `target` violates, with their codes.
    fn violations(&self, target: &Target) -> [Option<(&'static str, &'static str)>; 5] {
        let domains = Domains::of(target);
        [
            self.denying_path(target)
                .map(|_| ("endpoint.path_denylist", "endpoint_path_denied")),
            self.foreign_path(target)
                .map(|_| ("endpoint.path_allowlist", "endpoint_path_not_allowlisted")),
            domains
                .denied_by(&self.domain_denylist)
                .then_some(("endpoint.domain_denylist", "endpoint_domain_denied")),
            domains.foreign_to(&self.domain_allowlist).then_some((
                "endpoint.domain_allowlist",
                "endpoint_domain_not_allowlisted",
            )),
            self.foreign_class(target).map(|_| {
                (
                    "endpoint.egress_classes",
                    "endpoint_egress_class_not_allowed",
                )
            }),
        ]
    }

    /// The pattern that denies the path of `target`.
    pub(crate) fn denying_path(&self, target: &Target) -> Option<&str> {
        if self.path_denylist.is_empty() {
            return None;
        }
        let readings = readings::of(target);
        let mut readings = readings.iter();
        readings.find_map(|path| self.path_denylist.matching_path(path))
    }

    /// A reading of the path of `target` that is not one of the allowed ones.
    pub(crate) fn foreign_path(&self, target: &Target) -> Option<String> {
        if self.path_allowlist.is_empty() {
            return None;
        }
        let foreign = |path: &String| self.path_allowlist.matching_path(path).is_none();
        readings::of(target).into_iter().find(foreign)
    }

    /// The pattern that denies a domain of `target`.
    pub(crate) fn denying_domain(&self, target: &Target) -> Option<&str> {
        let domains = Domains::of(target);
        let mut known = domains.known().iter();
        known.find_map(|domain| self.domain_denylist.matching_domain(domain))
    }

    /// A domain of `target` that is not one of the allowed ones.
    pub(crate) fn foreign_domain(&self, target: &Target) -> Option<String> {
        let domains = Domains::of(target);
        let mut known = domains.known().iter();
        let foreign = |domain: &&String| self.domain_allowlist.matching_domain(domain).is_none();
        known
            .find(foreign)
            .filter(|_| !self.domain_allowlist.is_empty())
            .cloned()
    }

    /// The network class of `target`, if it is not one of the allowed ones.
    pub(crate) fn foreign_class<'t>(&self, target: &'t Target) -> Option<&'t str> {
        let class = target.endpoint_class.as_str();
        let foreign = class.starts_with("net.") && !admits(&self.egress_classes, class);
        foreign.then_some(class)
    }
}

/// The domains that a target may reach: the one it claims and the one in its address.
///
/// An address is asked for its own host, because a claim costs nothing. Where an address has no readable host, or where
/// something on the network does not say where, no list can vouch for it.
enum Domains {
    None,
    Unreadable,
    Known(Vec<String>),
}

impl Domains {
    fn of(target: &Target) -> Self {
        let inferred = infer_domain(&target.kind, &target.value);
        let claimed = Some(target.endpoint_domain.as_str()).filter(|claim| *claim != inferred);
        let reached = match target.kind.as_str() {
            // The format infers a host from any text; only one that every tool reads alike is vouched for.
            "host" => host::of_exact(&target.value).unwrap_or_default(),
            _ => inferred.clone(),
        };
        if reached.is_empty() && matches!(target.kind.as_str(), "url" | "host") {
            return Self::Unreadable;
        }
        let mut known = vec![claimed.unwrap_or_default(), &reached];
        known.retain(|domain| !domain.is_empty());
        match known.is_empty() {
            true if target.endpoint_class.starts_with("net.") => return Self::Unreadable,
            true => return Self::None,
            false => {}
        }
        Self::Known(
            known
                .into_iter()
                .map(|domain| rootless(domain).to_owned())
                .collect(),
        )
    }

    fn known(&self) -> &[String] {
        match self {
            Self::None | Self::Unreadable => &[],
            Self::Known(domains) => domains,
        }
    }

    fn denied_by(&self, list: &Patterns) -> bool {
        match self {
            Self::None => false,
            Self::Unreadable => !list.is_empty(),
            Self::Known(domains) => domains
                .iter()
                .any(|domain| list.matching_domain(domain).is_some()),
        }
    }

    fn foreign_to(&self, list: &Patterns) -> bool {
        match self {
            _ if list.is_empty() => false,
            Self::None => false,
            Self::Unreadable => true,
            Self::Known(domains) => !domains
                .iter()
                .all(|domain| list.matching_domain(domain).is_some()),
        }
    }
}

/// A domain without the dot of the root, which names the same host.
fn rootless(domain: &str) -> &str {
    domain.strip_suffix('.').unwrap_or(domain)
}

/// A list of patterns, prepared; serialised, it is the list as the policy spells it.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    spelling: Vec<String>,
    prepared: Vec<Pattern>,
}

/// One pattern: `/**` and `*.` have meanings of their own beside the glob's.
#[derive(Debug)]
struct Pattern {
    glob: Option<Glob>,
    exact: String,
    below: Option<String>,
}

impl Patterns {
    /// Path patterns: exact, `dir/**` for a directory and all below it, or a glob whose `*` stays inside a segment.
    pub(crate) fn of_paths(rule: &str, spelling: Vec<String>) -> Result<Self> {
        Self::prepare(rule, spelling, |pattern| {
            let exact = text::clean_path(pattern);
            let below = exact.strip_suffix("/**").map(str::to_owned);
            (exact, below)
        })
    }

    /// Domain patterns: exact, `*.x` for everything below `x` but not `x`, or a glob.
    pub(crate) fn of_domains(rule: &str, spelling: Vec<String>) -> Result<Self> {
        Self::prepare(rule, spelling, |pattern| {
            let exact = rootless(pattern).to_owned();
            let below = exact.strip_prefix('*').filter(|rest| rest.starts_with('.'));
            let below = below.map(str::to_owned);
            (exact, below)
        })
    }

    fn prepare(
        rule: &str,
        spelling: Vec<String>,
        split: fn(&str) -> (String, Option<String>),
    ) -> Result<Self> {
        let prepared = spelling.iter().map(|pattern| {
            let (exact, below) = split(pattern);
            let glob = Glob::parse(&exact).ok_or_else(|| {
                invalid(format!("malformed endpoint pattern {pattern:?} for {rule}"))
            })?;
            let glob = exact.contains(['*', '?', '[', '\\']).then_some(glob);
            Ok(Pattern { glob, exact, below })
        });
        Ok(Self {
            prepared: prepared.collect::<Result<_>>()?,
            spelling,
        })
    }

    fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    /// The first pattern that fits the cleaned `path`, as the policy spells it.
    fn matching_path(&self, path: &str) -> Option<&str> {
        self.first(|pattern| {
            let inside = |directory: &String| {
                path.strip_prefix(directory.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            pattern.fits(path) || pattern.below.as_ref().is_some_and(inside)
        })
    }

    /// The first pattern that fits `domain`, as the policy spells it.
    fn matching_domain(&self, domain: &str) -> Option<&str> {
        self.first(|pattern| {
            let ends = |suffix: &String| domain.ends_with(suffix.as_str());
            pattern.fits(domain) || pattern.below.as_ref().is_some_and(ends)
        })
    }

    fn first(&self, fits: impl Fn(&Pattern) -> bool) -> Option<&str> {
        let mut pairs = self.prepared.iter().zip(&self.spelling);
        let found = pairs.find(|(pattern, _)| fits(pattern));
        found.map(|(_, spelling)| spelling.as_str())
    }
}

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        self.exact == text || self.glob.as_ref().is_some_and(|glob| glob.matches(text))
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.spelling.serialize(serializer)
    }
}
