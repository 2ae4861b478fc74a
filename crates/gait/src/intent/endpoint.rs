//! What kind of endpoint a target is, when its author did not say.

use crate::host;

/// The endpoint classes a target may have.
pub(crate) const CLASSES: [&str; 10] = [
    "fs.read",
    "fs.write",
    "fs.delete",
    "proc.exec",
    "net.http",
    "net.dns",
    "ui.click",
    "ui.type",
    "ui.navigate",
    "other",
];

/// The class of a target of `kind`, from its operation first and from the tool's name second.
pub(super) fn infer_class(kind: &str, operation: &str, tool_name: &str) -> &'static str {
    match kind {
        "path" => file_class(operation, tool_name),
        "host" | "url" => match operation {
            "dns" | "resolve" | "lookup" => "net.dns",
            _ => "net.http",
        },
        "other" if runs_something(operation, tool_name) => "proc.exec",
        _ => "other",
    }
}

fn file_class(operation: &str, tool_name: &str) -> &'static str {
    match operation {
        "read" | "get" | "list" | "open" | "cat" | "head" | "download" | "stat" => "fs.read",
        "write" | "append" | "put" | "create" | "update" | "save" | "copy" | "move" | "rename" => {
            "fs.write"
        }
        "delete" | "remove" | "rm" | "unlink" | "rmdir" | "drop" | "truncate" => "fs.delete",
        _ if hints(tool_name, &["read", "list", "fetch", "search"]) => "fs.read",
        _ if hints(tool_name, &["write", "update", "save", "create"]) => "fs.write",
        _ if hints(tool_name, &["delete", "remove", "rm", "drop"]) => "fs.delete",
        _ => "other",
    }
}

fn runs_something(operation: &str, tool_name: &str) -> bool {
    matches!(operation, "exec" | "spawn" | "run" | "shell" | "command")
        || hints(tool_name, &["exec", "shell", "command", "spawn", "run"])
}

/// Whether the last segment of the tool's name contains one of the words.
fn hints(tool_name: &str, words: &[&str]) -> bool {
    let name = tool_name.trim_end_matches('/');
    let base = name.rsplit('/').next().unwrap_or(name);
    words.iter().any(|word| base.contains(word))
}

/// The host that a target of `kind` reaches, lower-case; empty when it reaches none or its address is malformed.
pub(crate) fn infer_domain(kind: &str, value: &str) -> String {
    match kind {
        "host" => host::of_host(value),
        "url" => host::of_url(value),
        _ => String::new(),
    }
}

/// Whether the class or the operation alone says that something is lost.
pub(super) fn infer_destructive(class: &str, operation: &str) -> bool {
    matches!(class, "fs.delete" | "proc.exec")
        || matches!(
            operation,
            "delete"
                | "remove"
                | "rm"
                | "unlink"
                | "rmdir"
                | "drop"
                | "truncate"
                | "exec"
                | "spawn"
        )
}
