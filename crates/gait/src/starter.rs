//! The policies that a machine starts with: readable, commented, deny by default.
//!
//! A `match` list holds when any entry fits any target, so it cannot say "all classes of the job". An endpoint
//! constraint can: it looks at every target. [`Target::label`] therefore carries its data class and its name as its
//! domain, and the policies here name the domains that may occur.
//!
//! [`Target::label`]: crate::intent::Target::label

mod templates;

pub use templates::{TEMPLATES, Template};

/// The tool name of running one task of a job on a donor's machine.
pub const TASK_RUN: &str = "worldcompute.task.run";
/// The tool name of sending a job out.
pub const JOB_SUBMIT: &str = "worldcompute.job.submit";
/// The tool name of giving out a key of a node's encrypted store.
pub const KEY_RELEASE: &str = "worldcompute.key.release";
/// The only data class that leaves its owner without encryption.
pub const PUBLIC: &str = "public";
/// The data class of key material.
pub const SECRET: &str = "secret";

/// The classes of work that a job can declare and a donor can consent to.
pub const CLASSES: [&str; 6] = [
    "scientific",
    "public-good-ml",
    "rendering",
    "indexing",
    "self-improvement",
    "general",
];

/// The target value by which policies know the class of work `class`.
pub fn label_of(class: &str) -> String {
    format!("class:{class}")
}

/// The keys that a node's own roles need, by what they open, and for what.
const KEYS: [(&str, &str); 4] = [
    (
        "store",
        "the store itself, without which a node does not start",
    ),
    ("job", "the records of the jobs that were submitted here"),
    ("receipt", "the log of what ran here as a donor"),
    ("dialogue", "the sessions of agents that were recorded here"),
];

/// The target value by which policies know the keys of `what`: `store`, or a kind of partition.
pub fn key_label_of(what: &str) -> String {
    format!("key:{what}")
}

/// The policy of a donor who consented to the classes `consented`, as YAML.
///
/// A task runs when every class of its job is consented to and all its data is public. A refused or an unknown class
/// blocks it, whatever else the job declares and in whatever order. Consent to a name that is no class is consent to
/// nothing.
pub fn donor_policy<S: AsRef<str>>(consented: &[S]) -> String {
    let consented_to = |class: &&str| consented.iter().any(|name| name.as_ref() == *class);
    let (consented, refused): (Vec<&str>, Vec<&str>) =
        CLASSES.iter().partition(|class| consented_to(class));
    let mut policy = HEADER.replace("WHAT", "What may run on this machine");
    if !refused.is_empty() {
        policy += &refuse(&refused);
    }
    if !consented.is_empty() {
        policy += &allow_classes("run-consented-classes", TASK_RUN, &consented);
    }
    policy
}

/// The policy of a submitter, as YAML: any known class of work may be sent out, with public data only.
pub fn submitter_policy() -> String {
    let header = HEADER.replace("WHAT", "What may be sent from this machine to others");
    header + &allow_classes("submit-public-jobs", JOB_SUBMIT, &CLASSES)
}

/// The policy of a node's keys, as YAML: the keys that its own roles need are given out, and no others.
pub fn keys_policy() -> String {
    let mut policy = HEADER.replace(
        "WHAT",
        "Which keys of this node's encrypted store are given out",
    );
    policy += "  # What a key opens:\n";
    for (what, opens) in KEYS {
        policy += &format!("  #   {:<12} {opens}\n", key_label_of(what));
    }
    policy
        + &allow(&Allowed {
            name: "release-own-keys",
            tool: KEY_RELEASE,
            data_class: SECRET,
            labels: KEYS.map(|(what, _)| key_label_of(what)).to_vec(),
            reason: "key_release_allowed",
        })
}

const HEADER: &str = "\
# WHAT. Whatever no rule allows is blocked.
# Rules with the lowest priority number are asked first; the first number at which any rule matches decides.
schema_id: gait.gate.policy
schema_version: 1.0.0
default_verdict: block
rules:
";

fn refuse(classes: &[&str]) -> String {
    format!(
        "  # One refused class blocks a job, whatever else it declares. To consent to a class, move it to the rule below.
  - name: refuse-other-classes
    priority: 10
    effect: block
    match:
      target_values:
{}    reason_codes: [class_not_consented]
    violations: [class_not_consented]
",
        items(classes.iter().copied().map(label_of))
    )
}

/// A rule that lets one tool pass while every target is one of `labels`.
struct Allowed {
    name: &'static str,
    tool: &'static str,
    data_class: &'static str,
    labels: Vec<String>,
    reason: &'static str,
}

fn allow_classes(name: &'static str, tool: &'static str, classes: &[&str]) -> String {
    allow(&Allowed {
        name,
        tool,
        data_class: PUBLIC,
        labels: classes.iter().copied().map(label_of).collect(),
        reason: "class_consented",
    })
}

fn allow(rule: &Allowed) -> String {
    let Allowed {
        name,
        tool,
        data_class,
        labels,
        reason,
    } = rule;
    format!(
        "  - name: {name}
    priority: 20
    effect: allow
    match:
      tool_names: [{tool}]
      data_classes: [{data_class}]
      target_values:
{}    # A match needs only one of its entries. This holds for every target: its data class, and what it is.
    endpoint:
      domain_allowlist:
{}      action: block
    reason_codes: [{reason}]
",
        items(labels.iter().cloned()),
        items(labels.iter().map(|label| format!("{data_class}.{label}"))),
    )
}

fn items(texts: impl Iterator<Item = String>) -> String {
    texts
        .map(|text| format!("        - \"{text}\"\n"))
        .collect()
}

#[cfg(test)]
mod tests;
