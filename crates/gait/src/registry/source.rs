//! Where a manifest may come from.

use std::path::PathBuf;

use hyper::Uri;
use worldcompute_fault::{Category, Fault, Result};

/// A source that the rules allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    File(PathBuf),
    /// An address on an allowlisted host.
    Remote(Uri),
}

/// The rules for addresses.
#[derive(Clone, Debug, Default)]
pub struct SourceRules {
    /// The hosts to fetch from. Without one, nothing is fetched.
    pub allow_hosts: Vec<String>,
    /// Whether plain http will do.
    pub allow_insecure_http: bool,
}

impl Source {
    /// Reads what the user gave: an `http(s)://` address, or else a path.
    ///
    /// Errors: `source_malformed`, `insecure_source`, `host_allowlist_required`, `host_not_allowed`.
    pub fn parse(text: &str, rules: &SourceRules) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(malformed("the source is empty"));
        }
        match scheme(text) {
            None => Ok(Self::File(PathBuf::from(text))),
            Some(scheme) => rules.check(&scheme, text).map(Self::Remote),
        }
    }

    /// The source for outputs and records: an address without its query, which may hold a token.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Remote(uri) => {
                let scheme = uri.scheme_str().unwrap_or_default();
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                format!("{scheme}://{authority}{}", uri.path())
            }
        }
    }
}

impl SourceRules {
    fn check(&self, scheme: &str, text: &str) -> Result<Uri> {
        match scheme {
            "https" => {}
            "http" if self.allow_insecure_http => {}
            "http" => return Err(insecure()),
            _ => return Err(malformed("only http and https addresses can be fetched")),
        }
        let uri: Uri = text
            .parse()
            .map_err(|_| malformed("the source is not an address"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(malformed(
                "an address must not hold a user name or password",
            ));
        }
        self.check_host(uri.host().unwrap_or_default())?;
        Ok(uri)
    }

    fn check_host(&self, host: &str) -> Result<()> {
        let host = bare(host);
        if self.allow_hosts.is_empty() {
            return Err(refused(
                "host_allowlist_required",
                "a remote source requires --allow-host",
                "name the registry's host with --allow-host",
            ));
        }
        if self.allow_hosts.iter().any(|allowed| bare(allowed) == host) {
            return Ok(());
        }
        let message = format!("source host {host} is not in the allowlist");
        Err(refused(
            "host_not_allowed",
            message,
            "add the host to --allow-host if you trust it",
        ))
    }
}

/// The scheme of an address in lower case; `None` for a path.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let plain = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    plain.then(|| scheme.to_ascii_lowercase())
}

/// A host as it is compared: lower case, without the brackets of an IPv6 address.
fn bare(host: &str) -> String {
    let host = host.trim();
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).to_ascii_lowercase()
}

fn insecure() -> Fault {
    refused(
        "insecure_source",
        "a remote source requires https",
        "use an https address, or --allow-insecure-http on a network you trust",
    )
}

fn malformed(message: &str) -> Fault {
    refused(
        "source_malformed",
        message,
        "give a path or an https address",
    )
}

fn refused(code: &'static str, message: impl Into<String>, hint: &'static str) -> Fault {
    Fault::new(Category::InvalidInput, code, message).hint(hint)
}
