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
/// The only data class that leaves its owner without encryption.
pub const PUBLIC: &str = "public";

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
        policy += &allow("run-consented-classes", TASK_RUN, &consented);
    }
    policy
}

/// The policy of a submitter, as YAML: any known class of work may be sent out, with public data only.
pub fn submitter_policy() -> String {
    let header = HEADER.replace("WHAT", "What may be sent from this machine to others");
    header + &allow("submit-public-jobs", JOB_SUBMIT, &CLASSES)
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
        items(classes, label_of)
    )
}

fn allow(name: &str, tool: &str, classes: &[&str]) -> String {
    format!(
        "  - name: {name}
    priority: 20
    effect: allow
    match:
      tool_names: [{tool}]
      data_classes: [{PUBLIC}]
      target_values:
{}    # A match needs only one of its entries. This holds for every target: its data class, and what it is.
    endpoint:
      domain_allowlist:
{}      action: block
    reason_codes: [class_consented]
",
        items(classes, label_of),
        items(classes, |class| format!("{PUBLIC}.{}", label_of(class)))
    )
}

fn items(classes: &[&str], spell: fn(&str) -> String) -> String {
    let lines = classes
        .iter()
        .map(|class| format!("        - \"{}\"\n", spell(class)));
    lines.collect()
}

#[cfg(test)]
mod tests;
