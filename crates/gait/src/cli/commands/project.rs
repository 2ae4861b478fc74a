//! `gait init` and `gait check`.

use std::path::Path;

use gait::starter::{TEMPLATES, Template};
use gait::surface::{CONTRACT, Detection, POLICY_PATH, gaps};
use gait::{Policy, artefact};
use serde_json::json;
use worldcompute_fault::{Fault, Result};

use super::policy;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait init`
pub static INIT: Command = Command {
    words: &["init"],
    help: "Write a policy for this project to start from.",
    flags: &[
        Flag::text("template", "baseline-highrisk"),
        Flag::text("out", POLICY_PATH),
        Flag::switch("force"),
    ],
    positionals: Positionals::None,
    run: init,
};

/// `gait check`
pub static CHECK: Command = Command {
    words: &["check"],
    help: "Validate the policy of this project, and name what it leaves open.",
    flags: &[Flag::text("policy", POLICY_PATH)],
    positionals: Positionals::None,
    run: check,
};

fn init(_context: &Context, args: &Args) -> Result<Outcome> {
    written(args).or_else(with_contract)
}

fn written(args: &Args) -> Result<Outcome> {
    let name = args.text("template");
    let template = Template::named(name).ok_or_else(|| {
        let names = TEMPLATES.map(|template| template.name).join(", ");
        invalid(format!("unknown template: {name}; there are {names}"))
    })?;
    let path = args.text("out").trim();
    if path.is_empty() {
        return Err(invalid("output path must not be empty"));
    }
    let detection = Detection::of(Path::new("."));
    let policy = detection.annotate(template.yaml);
    let write = if args.switch("force") {
        artefact::write
    } else {
        artefact::create
    };
    write(Path::new(path), policy.as_bytes()).map_err(|fault| policy::taken(path, fault))?;
    let next = [
        format!("gait check --policy {path} --json"),
        format!("gait policy validate {path} --json"),
        format!("gait gate eval --policy {path} --intent <intent.json> --json"),
    ];
    let human = format!(
        "init ok: template={} policy={path}\nnext: {}",
        template.name,
        next.join(" | ")
    );
    let fields = json!({
        "contract": CONTRACT,
        "detection": detection,
        "next_commands": next,
        "policy_path": path,
        "template": template.name,
    });
    Outcome::ok(&fields, human)
}

fn check(context: &Context, args: &Args) -> Result<Outcome> {
    checked(context, args).or_else(with_contract)
}

fn checked(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.text("policy").trim();
    if path.is_empty() {
        return Err(invalid("policy path must not be empty"));
    }
    let policy = Policy::load(Path::new(path))?;
    let detection = Detection::of(Path::new("."));
    let gaps = gaps(&policy, &detection, &*context.clock)?;
    let summary = format!(
        "policy ok: default_verdict={} rules={} gap_warnings={}",
        policy.default_verdict(),
        policy.rule_count(),
        gaps.len()
    );
    let mut human = summary.clone();
    for gap in &gaps {
        human.push_str(&format!("\n- {gap}"));
    }
    let mut fields = json!({
        "contract": CONTRACT,
        "default_verdict": policy.default_verdict(),
        "detection": detection,
        "policy_path": path,
        "summary": summary,
    });
    if let Some(fields) = fields.as_object_mut() {
        let optional = [
            ("rule_count", json!(policy.rule_count())),
            ("gap_warnings", json!(gaps)),
        ];
        let said = optional
            .into_iter()
            .filter(|(_, value)| *value != json!(0) && *value != json!([]));
        fields.extend(said.map(|(name, value)| (name.to_owned(), value)));
    }
    Outcome::ok(&fields, human)
}

fn with_contract(fault: Fault) -> Result<Outcome> {
    Outcome::failed(fault, &json!({ "contract": CONTRACT }))
}
