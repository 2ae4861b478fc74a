//! Which evidence speaks to which control.

use std::str::FromStr;

use worldcompute_fault::{Category, Fault, Result};

use super::manifest::{Control, Evidence};
use crate::pack::Entry;

/// A set of controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// SOC 2, common criteria.
    Soc2,
    /// PCI DSS.
    Pci,
    /// The reconstruction of an incident.
    IncidentResponse,
}

/// A control, the types of evidence that speak to it, and the names that do whatever their type.
struct ControlTemplate {
    id: &'static str,
    title: &'static str,
    types: &'static [&'static str],
    names: &'static [&'static str],
}

const SOC2: &[ControlTemplate] = &[
    ControlTemplate {
        id: "CC6.6",
        title: "Change Management Evidence",
        types: &["trace", "evidence"],
        names: &["approval_audit_", "credential_evidence_"],
    },
    ControlTemplate {
        id: "CC7.2",
        title: "Operational Monitoring",
        types: &["report"],
        names: &["regress_summary.json", "trace_summary.json"],
    },
    ControlTemplate {
        id: "CC8.1",
        title: "Incident Evidence Integrity",
        types: &["runpack", "evidence"],
        names: &["runpack_summary.json", "referenced_runpacks.json"],
    },
];

const PCI: &[ControlTemplate] = &[
    ControlTemplate {
        id: "PCI-10",
        title: "Audit Trail and Monitoring",
        types: &["trace", "report"],
        names: &["trace_summary.json"],
    },
    ControlTemplate {
        id: "PCI-7",
        title: "Access and Approval Controls",
        types: &["evidence"],
        names: &["approval_audit_", "credential_evidence_"],
    },
    ControlTemplate {
        id: "PCI-12",
        title: "Incident Handling Evidence",
        types: &["runpack", "report"],
        names: &["runpack_summary.json", "regress_summary.json"],
    },
];

const INCIDENT_RESPONSE: &[ControlTemplate] = &[
    ControlTemplate {
        id: "IR-CHAIN",
        title: "Reconstruction Chain",
        types: &["runpack", "trace", "evidence"],
        names: &[
            "runpack_summary.json",
            "trace_summary.json",
            "approval_audit_",
            "credential_evidence_",
        ],
    },
    ControlTemplate {
        id: "IR-ROOTCAUSE",
        title: "Root Cause and Regression",
        types: &["report"],
        names: &["regress_summary.json", "policy_digests.json"],
    },
];

impl Template {
    /// The name in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soc2 => "soc2",
            Self::Pci => "pci",
            Self::IncidentResponse => "incident_response",
        }
    }

    /// The controls of the template, each with the entries that speak to it.
    pub(super) fn controls(self, contents: &[Entry]) -> Vec<Control> {
        let templates = match self {
            Self::Soc2 => SOC2,
            Self::Pci => PCI,
            Self::IncidentResponse => INCIDENT_RESPONSE,
        };
        let control = |template: &ControlTemplate| Control {
            control_id: template.id.to_owned(),
            title: template.title.to_owned(),
            evidence_paths: contents
                .iter()
                .filter(|entry| template.is_about(entry))
                .map(|entry| entry.path.clone())
                .collect(),
        };
        templates.iter().map(control).collect()
    }
}

impl FromStr for Template {
    type Err = Fault;

    /// Errors: `unknown_template`.
    fn from_str(text: &str) -> Result<Self> {
        match &*text.trim().to_ascii_lowercase() {
            "" | "soc2" => Ok(Self::Soc2),
            "pci" => Ok(Self::Pci),
            "incident_response" => Ok(Self::IncidentResponse),
            _ => {
                let message = format!("there is no audit template {text:?}");
                Err(
                    Fault::new(Category::InvalidInput, "unknown_template", message)
                        .hint("use --template soc2, pci or incident_response"),
                )
            }
        }
    }
}

impl ControlTemplate {
    fn is_about(&self, entry: &Entry) -> bool {
        self.types.contains(&&*entry.kind)
            || self.names.iter().any(|name| entry.path.contains(name))
    }
}

/// Every entry, numbered in order.
pub(super) fn pointers(contents: &[Entry]) -> Vec<Evidence> {
    let pointer = |(index, entry): (usize, &Entry)| Evidence {
        pointer_id: format!("ev_{:03}", index + 1),
        path: entry.path.clone(),
        kind: entry.kind.clone(),
        sha256: entry.sha256.clone(),
    };
    contents.iter().enumerate().map(pointer).collect()
}

/// The type of an entry, by its name.
pub(super) fn entry_type(path: &str) -> &'static str {
    match path {
        "runpack_summary.json" => "runpack",
        "trace_summary.json" => "trace",
        "regress_summary.json"
        | "control_index.json"
        | "evidence_pointers.json"
        | "policy_digests.json"
        | "summary.pdf" => "report",
        _ => "evidence",
    }
}
