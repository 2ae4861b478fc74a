//! What each method of MCP 2025-06-18 is to the proxy.

/// What a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Keeps the session going and touches nothing.
    Passes,
    /// Shows what a server offers, in words that an agent reads.
    Lists,
    /// Calls a tool.
    Calls,
    /// Does something else: ruled on as a tool of this name.
    Ruled(Deed),
}

/// A deed that is no tool call, as policies know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    /// The name of the tool that stands for it.
    pub(super) tool: &'static str,
    /// The member of `params` that says what it touches, the kind of that, and the operation.
    pub(super) target: Option<(&'static str, &'static str, &'static str)>,
}

const fn deed(
    tool: &'static str,
    target: Option<(&'static str, &'static str, &'static str)>,
) -> Class {
    Class::Ruled(Deed { tool, target })
}

const READ: &str = "mcp.resources.read";
const SUBSCRIBE: &str = "mcp.resources.subscribe";
const COMPLETE: &str = "mcp.completion.complete";
const PROMPT: &str = "mcp.prompts.get";
const SAMPLE: &str = "mcp.sampling.create_message";
const ELICIT: &str = "mcp.elicitation.create";
const ROOTS: &str = "mcp.roots.list";

/// What a client may ask a server; `None` for what the protocol does not have.
pub(super) fn of_client(method: &str) -> Option<Class> {
    Some(match method {
        "tools/call" => Class::Calls,
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            Class::Lists
        }
        "resources/read" => deed(READ, Some(("uri", "url", "read"))),
        "resources/subscribe" => deed(SUBSCRIBE, Some(("uri", "url", "read"))),
        "completion/complete" => deed(COMPLETE, None),
        "prompts/get" => deed(PROMPT, Some(("name", "other", "read"))),
        "initialize" | "ping" | "logging/setLevel" | "resources/unsubscribe" => Class::Passes,
        _ => return None,
    })
}

/// What a server may ask a client.
pub(super) fn of_server(method: &str) -> Option<Class> {
    Some(match method {
        "ping" => Class::Passes,
        "sampling/createMessage" => deed(SAMPLE, None),
        "elicitation/create" => deed(ELICIT, None),
        "roots/list" => deed(ROOTS, None),
        _ => return None,
    })
}

/// Whether a client may tell a server so.
pub(super) fn client_tells(method: &str) -> bool {
    matches!(
        method,
        "notifications/initialized"
            | "notifications/cancelled"
            | "notifications/progress"
            | "notifications/roots/list_changed"
    )
}

/// Whether a server may tell a client so.
pub(super) fn server_tells(method: &str) -> bool {
    matches!(
        method,
        "notifications/cancelled"
            | "notifications/progress"
            | "notifications/message"
            | "notifications/resources/updated"
            | "notifications/resources/list_changed"
            | "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
    )
}

/// Whether a policy could not tell a tool of that name from a deed.
pub(super) fn is_reserved(tool: &str) -> bool {
    [READ, SUBSCRIBE, PROMPT, SAMPLE, ELICIT, ROOTS].contains(&tool)
}
