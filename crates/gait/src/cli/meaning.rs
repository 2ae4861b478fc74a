//! What each flag is for, in one line. A default that the declaration of the flag cannot have, because the project's
//! settings stand between, is named here.

/// What `--<flag>` is for in the command `command`.
pub fn of(command: &str, flag: &str) -> &'static str {
    let own = OWN.iter().filter(|(words, name, _)| {
        let rest = command.strip_prefix(words);
        *name == flag && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    });
    let own = own.map(|(_, _, meaning)| *meaning).next();
    let shared = || SHARED.iter().find(|(name, _)| *name == flag);
    own.or_else(|| shared().map(|(_, meaning)| *meaning))
        .unwrap_or_default()
}

/// Flags that mean something of their own in a command or group.
const OWN: &[(&str, &str, &str)] = &[
    (
        "approve",
        "scope",
        "what the approval is good for, such as tool:<name>; * for anything",
    ),
    (
        "approve",
        "ttl",
        "how long the approval lasts; more than 0s",
    ),
    (
        "approve",
        "out",
        "where the token goes (default approval_<id>.json)",
    ),
    (
        "approve-script",
        "intent",
        "intent whose script is approved",
    ),
    (
        "approve-script",
        "policy",
        "policy under which the script is approved",
    ),
    (
        "approve-script",
        "ttl",
        "how long the script stays approved",
    ),
    ("approve-script", "scope", "labels kept with the entry"),
    ("check", "policy", "policy of the repository"),
    (
        "delegate mint",
        "ttl",
        "how long the delegation lasts; more than 0s",
    ),
    (
        "delegate mint",
        "out",
        "where the token goes (default delegation_<id>.json)",
    ),
    ("delegate", "scope", "what the delegation is good for"),
    (
        "demo",
        "policy",
        "show a policy that blocks, asks and allows, instead of a run",
    ),
    (
        "doctor adoption",
        "from",
        "adoption log, as GAIT_ADOPTION_LOG names it",
    ),
    (
        "doctor",
        "summary",
        "print only the findings that are no pass",
    ),
    (
        "gate",
        "config",
        "project's settings, which stand behind the flags",
    ),
    (
        "gate",
        "key-mode",
        "dev: a key of this run signs; prod: the private key (default dev)",
    ),
    (
        "gate",
        "profile",
        "standard, or oss-prod for the stricter rules (default standard)",
    ),
    (
        "gate",
        "rate-limit-state",
        "counters of the limits (default ./.gait-out/gate_rate_limits.json)",
    ),
    (
        "gate",
        "session",
        "log in which decisions are numbered without a gap; none without it",
    ),
    (
        "gate serve",
        "listen",
        "address on loopback to listen on, instead of a socket",
    ),
    (
        "gate serve",
        "trace-dir",
        "folder for the evidence; empty: every answer carries its trace",
    ),
    ("guard decrypt", "in", "sealed file"),
    ("guard decrypt", "out", "where the opened file goes"),
    ("guard encrypt", "in", "file to seal"),
    ("guard encrypt", "out", "where the sealed file goes"),
    (
        "guard pack",
        "out",
        "where the pack goes (default beside the runpack)",
    ),
    ("guard pack", "trace", "traces to put into the pack"),
    ("guard pack", "run", "run id or path of the runpack"),
    ("guard retain", "root", "folder that is gone through"),
    ("hook", "trace-dir", "folder for the traces"),
    (
        "incident pack",
        "from",
        "run id or path of the runpack that the incident is about",
    ),
    (
        "incident pack",
        "out",
        "where the pack goes (default beside the runpack)",
    ),
    ("init", "out", "where the policy goes"),
    ("init", "template", "policy to start from"),
    (
        "job checkpoint add",
        "summary",
        "what was reached, up to 512 bytes",
    ),
    (
        "job checkpoint add",
        "type",
        "plan, progress, decision-needed, blocked or completed",
    ),
    ("job checkpoint show", "checkpoint", "id of the checkpoint"),
    ("job", "identity", "identity that the job runs as"),
    ("job", "policy", "policy whose digest the job is bound to"),
    (
        "job",
        "policy-digest",
        "digest of the policy that the job is bound to",
    ),
    ("job", "reason", "why, for the log"),
    ("job", "root", "folder of the jobs"),
    ("keys", "out-dir", "folder for the pair"),
    ("kill-switch add", "identity", "stop calls of this identity"),
    (
        "kill-switch add",
        "reason",
        "why, for those who are stopped",
    ),
    (
        "kill-switch expire",
        "expires-at",
        "when the entry ends, RFC 3339 (default now)",
    ),
    (
        "mcp serve",
        "listen",
        "address to listen on; off loopback only with a token",
    ),
    ("mcp serve", "policy", "policy that rules"),
    ("mcp verify", "policy", "policy with the mcp_trust clause"),
    (
        "pack build",
        "from",
        "run id, path of the runpack or chain, job id, call record or bundle",
    ),
    (
        "pack build",
        "key-mode",
        "none: unsigned; dev: a key of this run; prod: the private key",
    ),
    (
        "pack build",
        "out",
        "where the pack goes (default pack_<id>.zip)",
    ),
    ("pack build", "type", "run, job, call or authorization"),
    (
        "pack diff",
        "output",
        "where the report goes, besides standard output",
    ),
    ("pack export", "path", "pack to export"),
    ("policy init", "out", "where the policy goes"),
    ("policy simulate", "policy", "policy that would be in force"),
    ("regress", "config", "list of fixtures and graders"),
    (
        "regress",
        "from",
        "run id, runpack, or session chain that the fixture is made of",
    ),
    ("regress", "output", "where the result goes"),
    ("registry", "path", "registry_pack.json in the cache"),
    (
        "run diff",
        "output",
        "where the report goes, besides standard output",
    ),
    (
        "run record",
        "key-mode",
        "dev: a key of this run signs; prod: the private key; unsigned without either",
    ),
    ("run record", "out-dir", "folder for the runpack"),
    (
        "run record",
        "run-id",
        "id of the run, instead of the file's",
    ),
    (
        "run reduce",
        "from",
        "run id or path of the runpack to reduce",
    ),
    (
        "run reduce",
        "out",
        "where the reduced runpack goes (default beside the other)",
    ),
    (
        "run session append",
        "intent-digest",
        "digest of what was decided",
    ),
    (
        "run session checkpoint",
        "key-mode",
        "dev: a key of this run signs; prod: the private key; unsigned without either",
    ),
    (
        "run session checkpoint",
        "out",
        "where the checkpoint's runpack goes",
    ),
    (
        "run session compact",
        "out",
        "where the compacted journal goes (default over the old one)",
    ),
    (
        "run session compact",
        "dry-run",
        "say what would go, and change nothing",
    ),
    (
        "run session start",
        "run-id",
        "id of the run that the session records",
    ),
    ("run", "from", "run id or path of the runpack"),
    ("session", "session", "log of the session"),
    ("trace verify", "path", "trace to verify"),
    ("verify chain", "run", "run id or path of the runpack"),
    ("verify chain", "trace", "trace that belongs to the run"),
    ("verify session-chain", "chain", "chain of checkpoints"),
    (
        "run record",
        "store",
        "home of the node in whose encrypted store the run goes, too",
    ),
    ("run record", "trace", "traces that go there with it"),
    (
        "run record",
        "approval-audit",
        "audits of approvals that go there with it",
    ),
];

/// Flags that mean the same wherever they are.
const SHARED: &[(&str, &str)] = &[
    ("actor", "who asks for it"),
    (
        "adapter",
        "shape of the calls: mcp, openai, anthropic, langchain or claude_code",
    ),
    ("agent-id", "stop calls of this agent"),
    (
        "allow-cached-fallback",
        "take the pinned copy of the cache while the source cannot be reached",
    ),
    (
        "allow-client-artifact-paths",
        "let clients name where their evidence goes; on loopback only",
    ),
    (
        "allow-context-runtime-drift",
        "pass a run whose context changed only in its environment",
    ),
    (
        "allow-env-mismatch",
        "resume in another environment than the job was submitted in",
    ),
    ("allow-host", "hosts that a source may be on"),
    (
        "allow-insecure-http",
        "take http, on a network that you trust",
    ),
    (
        "allow-nondeterministic",
        "run the graders that are programs",
    ),
    ("allow-simulate", "let clients ask what would be decided"),
    ("allow-tools", "tools that may really be run"),
    ("approval-audit", "audits of approvals to put into the pack"),
    (
        "approval-audit-out",
        "where the audit of approvals goes (default approval_audit_<id>.json)",
    ),
    (
        "approval-private-key",
        "private key whose other half signed the approvals",
    ),
    ("approval-private-key-env", "variable with that key"),
    ("approval-public-key", "key that signed the approvals"),
    ("approval-public-key-env", "variable with that key"),
    (
        "approval-redemption-state",
        "memory of approvals that are good once",
    ),
    (
        "approval-single-use",
        "take every approval for one decision only",
    ),
    ("approval-token", "approval to present"),
    ("approval-token-chain", "further approvals"),
    (
        "approval-token-ref",
        "reference for the trace while no approval is valid",
    ),
    (
        "approved-script-public-key",
        "key that signed the approved scripts",
    ),
    ("approved-script-public-key-env", "variable with that key"),
    ("approved-script-registry", "approved scripts"),
    ("approver", "who approves"),
    ("auth-mode", "off, or token for a bearer token"),
    (
        "auth-token-env",
        "variable with the token that clients show, of at least 16 bytes",
    ),
    ("baseline", "policy that is in force"),
    (
        "cache-dir",
        "cache of the registry (default ~/.gait/registry)",
    ),
    ("call", "tool call to rule on; - for standard input"),
    (
        "capture-mode",
        "reference keeps digests, raw keeps arguments and results (default reference)",
    ),
    ("case-id", "case that the pack is for"),
    (
        "chain-out",
        "where the chain goes (default beside the journal)",
    ),
    (
        "checkpoint",
        "latest, or the number of a checkpoint of the chain",
    ),
    (
        "context-conformance",
        "also grade the evidence of the context",
    ),
    ("context-envelope", "what the agent consulted"),
    ("context-evidence-mode", "best_effort or required"),
    ("credential-broker", "off, env or command (default off)"),
    ("credential-command", "program that hands out credentials"),
    ("credential-command-args", "its arguments"),
    (
        "credential-env-prefix",
        "start of the variables with credentials (default GAIT_BROKER_TOKEN_)",
    ),
    (
        "credential-evidence",
        "records of credentials to put into the pack",
    ),
    (
        "credential-evidence-out",
        "where the record of a credential goes (default credential_evidence_<id>.json)",
    ),
    (
        "credential-ref",
        "name of the credential, instead of the policy's",
    ),
    ("credential-scopes", "further scopes of the credential"),
    ("cwd", "folder that the program runs in"),
    ("delegate", "who gets the authority"),
    (
        "delegation-audit-out",
        "where the audit of delegations goes (default delegation_audit_<id>.json)",
    ),
    (
        "delegation-binding-digest",
        "digest of the delegation that the approval is bound to",
    ),
    (
        "delegation-private-key",
        "private key whose other half signed the delegations",
    ),
    ("delegation-private-key-env", "variable with that key"),
    ("delegation-public-key", "key that signed the delegations"),
    ("delegation-public-key-env", "variable with that key"),
    ("delegation-token", "delegation to present"),
    (
        "delegation-token-chain",
        "further delegations, a token for each link",
    ),
    ("delegator", "who gives the authority"),
    ("dry-run", "say what would be deleted, and delete nothing"),
    (
        "durable",
        "show a job that survives being killed, instead of a run",
    ),
    ("entry-id", "id of the entry"),
    (
        "env-fingerprint",
        "environment of the job, instead of this machine's",
    ),
    ("environment", "stop calls in this environment"),
    (
        "evaluation-time",
        "time by which the policy is asked, RFC 3339 (default now)",
    ),
    (
        "expires-at",
        "when the entry ends, RFC 3339; never without it",
    ),
    (
        "explain",
        "say what the command does; with --json, explain the decision",
    ),
    ("export-log-out", "file that gets a line of JSON a ruling"),
    (
        "export-otel-out",
        "file that gets a log record of OpenTelemetry a ruling",
    ),
    (
        "fixtures",
        "recorded traces and intents: files, or folders of them",
    ),
    ("force", "replace what is there"),
    (
        "http-verdict-status",
        "compat: 200 for every ruling; strict: 403 for block, 409 for ask",
    ),
    ("id", "id of the job"),
    ("identity-revocations", "list of revoked identities"),
    (
        "identity-revoked",
        "the identity was revoked: refuse to resume",
    ),
    ("identity-validation-source", "who vouches for the identity"),
    ("input", "run to record, as JSON"),
    ("intent", "intent to decide on"),
    ("intent-digest", "digest of the intent"),
    ("intent-id", "id of the intent"),
    ("inventory", "inventories to put into the pack"),
    (
        "job-id",
        "job that the calls belong to: while it is stopped, none passes",
    ),
    ("job-root", "folder of the jobs"),
    ("journal", "journal of the session"),
    ("junit", "where a JUnit report goes"),
    ("key-command", "program that prints the key"),
    ("key-command-args", "its arguments"),
    ("key-env", "variable with the key, 32 bytes in base64"),
    (
        "key-mode",
        "dev: a key of this run signs; prod: the private key",
    ),
    ("kill-switch-state", "state of the kill switch to obey"),
    (
        "max-ops",
        "most operations that the approval covers; 0 for any number",
    ),
    ("max-request-bytes", "most bytes of a request"),
    (
        "max-targets",
        "most targets that the approval covers; 0 for any number",
    ),
    ("name", "name of the fixture (default the run id)"),
    ("no-config", "read no project's settings"),
    ("otel-out", "where log records of OpenTelemetry go"),
    ("output-dir", "folder for what commands write"),
    ("pack", "pack that belongs to the run"),
    ("pack-dir", "folder for packs of sessions"),
    ("pack-max-age", "delete packs that are older; 0s keeps them"),
    (
        "pack-max-count",
        "delete the oldest packs beyond so many; 0 keeps them",
    ),
    ("pack-out", "where a pack of the ruling goes"),
    ("pack-ttl", "age from which packs go"),
    ("path", "pack to look at"),
    ("path-prefixes", "stop calls that touch paths below these"),
    ("pattern-id", "id of the entry (default by its content)"),
    ("pin", "sha256:<digest> that the pack must have"),
    ("policy", "policy to decide by"),
    ("policy-digest", "digest of the policy"),
    ("policy-ref", "name of the policy, for the log"),
    (
        "postgres-include-ddl",
        "also write the statement that makes the table",
    ),
    ("postgres-sql-out", "where SQL for PostgreSQL goes"),
    ("postgres-table", "table that the SQL fills"),
    (
        "predicate",
        "missing_result or non_ok_status: what the reduced run must still show",
    ),
    ("prefix", "name of the pair"),
    ("privacy", "full, or metadata to leave payloads out"),
    (
        "private-key",
        "file with the private key; with --key-mode prod where it signs",
    ),
    ("private-key-env", "variable with the private key"),
    (
        "production-readiness",
        "hold the machine to what production needs; exit 2 where it falls short",
    ),
    (
        "profile",
        "standard, or the stricter one (strict, oss-prod)",
    ),
    ("public-key", "file with the public key"),
    ("public-key-env", "variable with the public key"),
    ("publisher-allowlist", "publishers that a pack may be of"),
    ("rate-limit-state", "counters of the limits"),
    (
        "real-tools",
        "run the tools; needs the other two flags, --allow-tools and the variable",
    ),
    ("reason-code", "why, as a stable code"),
    ("reason-codes", "why it was decided so"),
    ("registry", "registry of approved scripts"),
    ("regress", "results of regressions to put into the pack"),
    ("render-pdf", "also put a PDF summary into the pack"),
    ("report-out", "where the report goes"),
    ("require-closed", "fail unless the session was closed"),
    ("require-signature", "fail what nobody signed"),
    (
        "required-action",
        "what has to be done before the job goes on",
    ),
    (
        "retry-base-delay",
        "wait before the second attempt, doubled each time",
    ),
    ("retry-max-attempts", "attempts of a fetch, 1 to 10"),
    (
        "risk-class",
        "risk of the call: low, medium, high or critical",
    ),
    ("run-id", "run that the call belongs to"),
    ("runpack-dir", "folder for runpacks of sessions"),
    (
        "runpack-max-age",
        "delete runpacks that are older; 0s keeps them",
    ),
    (
        "runpack-max-count",
        "delete the oldest runpacks beyond so many; 0 keeps them",
    ),
    ("runpack-out", "where a runpack of the ruling goes"),
    ("scope-class", "class of the delegated scope"),
    ("server", "what is known of the server, as JSON"),
    (
        "server-id",
        "server, as the snapshot of the mcp_trust clause names it",
    ),
    ("session-dir", "folder for journals of sessions"),
    ("session-id", "id of the session (default of its own)"),
    (
        "session-max-age",
        "delete journals that are older; 0s keeps them",
    ),
    (
        "session-max-count",
        "delete the oldest journals beyond so many; 0 keeps them",
    ),
    ("simulate", "say what would be decided, and permit nothing"),
    ("single-use", "make the approval good for one decision only"),
    ("socket", "Unix socket to listen on"),
    ("source", "path or https address of the pack"),
    ("state", "state of the kill switch"),
    (
        "stdio",
        "stand between an MCP client and the server behind --",
    ),
    ("target-kind", "stop calls with a target of this kind"),
    ("target-value", "stop calls with this target"),
    ("template", "soc2, pci or incident_response"),
    ("timeout", "how long the program may take"),
    ("token", "delegation to verify"),
    ("tool", "tool that was called"),
    ("tool-name", "stop calls of this tool"),
    ("trace-dir", "folder for the traces of a session"),
    ("trace-id", "id of the trace"),
    (
        "trace-max-age",
        "delete traces that are older; 0s keeps them",
    ),
    (
        "trace-max-count",
        "delete the oldest traces beyond so many; 0 keeps them",
    ),
    (
        "trace-out",
        "where the trace goes (default trace_<id>.json)",
    ),
    ("trace-path", "where the trace is"),
    (
        "trace-public-key",
        "key that signed the traces; others are refused",
    ),
    ("trace-public-key-env", "variable with that key"),
    ("trace-ttl", "age from which traces go"),
    (
        "unsafe-context-raw",
        "record documents of the context in full",
    ),
    ("unsafe-real-tools", "confirm --real-tools"),
    (
        "unsafe-real-tools-env",
        "variable that must be 1 for --real-tools",
    ),
    ("verdict", "what was decided"),
    ("violations", "what was violated"),
    (
        "why-not",
        "also name the least change to the policy that would allow it",
    ),
    (
        "window",
        "time before and after the run that is gone through",
    ),
    ("workdir", "folder of the project"),
    (
        "workspace-prefixes",
        "stop calls from workspaces that begin so",
    ),
    (
        "write",
        "write the file in its normal form, instead of printing it",
    ),
    ("wrkr-inventory", "inventory of tools"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::COMMANDS;
    use crate::cli::flag::Flag;

    #[test]
    fn every_flag_has_a_meaning_and_every_meaning_a_flag() {
        let mut unused: Vec<String> = OWN.iter().map(|own| own.2.to_owned()).collect();
        unused.extend(SHARED.iter().map(|shared| shared.1.to_owned()));
        for command in COMMANDS {
            for flag in Flag::flatten(command.flags) {
                let meaning = of(&command.name(), flag.name);
                assert!(!meaning.is_empty(), "{} --{}", command.name(), flag.name);
                unused.retain(|unused| unused != meaning);
            }
        }
        assert_eq!(unused, [""; 0]);
    }
}
