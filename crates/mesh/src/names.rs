//! Names of hosts, found also where the network's own resolver lies or is silent.
//!
//! The operating system is asked first. If it knows nothing, or does not answer, two public resolvers are asked over
//! HTTPS (RFC 8484), which looks like any other visit to a website. A node can also be told to ask nobody else, and then
//! sends nothing to port 53.

mod asking;
mod resolving;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::pki_types::CertificateDer;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use libp2p::Multiaddr;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use worldcompute_fault::{Category, Fault};

use crate::wss::{Inspection, local_authorities};

pub(crate) use resolving::{Resolving, named, reached_at};

/// When a name that stands for several nodes is looked up again.
pub const NAMES_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// The operating system answers within this time, or counts as silent.
const SYSTEM_TIMEOUT: Duration = Duration::from_secs(2);
/// A resolver over HTTPS answers within this time.
const DOH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked.
const DOH_ATTEMPTS: usize = 2;
/// Resolvers over HTTPS.
pub const MAX_DOH_SERVERS: usize = 8;
/// Addresses of a host that are dialled, one after the other.
const MAX_ADDRESSES: usize = 4;
/// Entries taken from one name.
const MAX_ENTRIES: usize = 32;
/// Questions that the system may take its time over. With more, it counts as silent.
const MAX_ASKED: usize = 8;
/// What an entry of `/dnsaddr` begins with, and where it is kept (the multiformats' specification of DNSADDR).
const DNSADDR: (&str, &str) = ("dnsaddr=", "_dnsaddr.");

/// A resolver that is asked over HTTPS, written `name@ip` or `name@ip:port`. The name is what its certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DohServer {
    name: String,
    at: SocketAddr,
}

impl DohServer {
    /// Those of Cloudflare and of Google.
    pub fn defaults() -> Vec<Self> {
        [
            ("cloudflare-dns.com", Ipv4Addr::new(1, 1, 1, 1)),
            ("dns.google", Ipv4Addr::new(8, 8, 8, 8)),
        ]
        .map(|(name, ip)| Self {
            name: name.to_owned(),
            at: SocketAddr::new(ip.into(), 443),
        })
        .into()
    }
}

impl fmt::Display for DohServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.at)
    }
}

impl FromStr for DohServer {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let parsed = text.split_once('@').and_then(|(name, at)| {
            let at = at
                .parse()
                .or_else(|_| at.parse().map(|ip: IpAddr| SocketAddr::new(ip, 443)))
                .ok()?;
            let known = futures_rustls::rustls::pki_types::DnsName::try_from(name).is_ok();
            known.then(|| Self {
                name: name.to_owned(),
                at,
            })
        });
        parsed.ok_or_else(|| {
            Fault::new(
                Category::InvalidInput,
                "invalid_doh_server",
                "a resolver over HTTPS is written name@ip or name@ip:port",
            )
            .hint("for example cloudflare-dns.com@1.1.1.1")
        })
    }
}

/// Who is asked for names.
#[derive(Clone, Debug)]
pub struct NameConfig {
    /// Whether the operating system's resolver is not asked at all.
    pub doh_only: bool,
    /// The resolvers over HTTPS; at most [`MAX_DOH_SERVERS`]. None: only the operating system is asked.
    pub doh: Vec<DohServer>,
    /// PEM certificates of authorities that may vouch for them, beside the public ones.
    pub doh_authorities: Vec<u8>,
    /// When a name that stands for several nodes is looked up again; see [`NAMES_AGAIN_AFTER`].
    pub again_after: Duration,
}

impl Default for NameConfig {
    fn default() -> Self {
        Self {
            doh_only: false,
            doh: DohServer::defaults(),
            doh_authorities: Vec::new(),
            again_after: NAMES_AGAIN_AFTER,
        }
    }
}

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    fn takes(self, ip: &IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

/// Finds what is behind a name.
pub(crate) struct Names {
    asks_system: bool,
    asking: Arc<Semaphore>,
    system: Option<TokioResolver>,
    doh: Option<TokioResolver>,
}

impl Names {
    /// # Errors
    /// `invalid_doh_server` for too many, for none where nobody else may be asked, and for authorities that are none.
    pub(crate) fn new(config: &NameConfig, inspection: Inspection) -> Result<Self, Fault> {
        Ok(Self {
            asks_system: !config.doh_only,
            asking: Arc::new(Semaphore::new(MAX_ASKED)),
            system: (!config.doh_only).then(system).flatten(),
            doh: over_https(config, inspection)?,
        })
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// What each of those who were asked answered.
    pub(crate) async fn addresses(&self, host: &str, family: Family) -> io::Result<Vec<IpAddr>> {
        let system = self.asks_system.then(|| self.of_system(host, family));
        let doh = self.doh.as_ref().map(|doh| of_resolver(doh, host, family));
        first(host, system, doh).await
    }

    /// The addresses that `/dnsaddr/<host>` stands for. What is no address among them is left out.
    ///
    /// # Errors
    /// As [`addresses`](Self::addresses).
    pub(crate) async fn entries(&self, host: &str) -> io::Result<Vec<Multiaddr>> {
        let name = format!("{}{host}", DNSADDR.1);
        let system = self.system.as_ref().map(|system| texts(system, &name));
        let doh = self.doh.as_ref().map(|doh| texts(doh, &name));
        first(host, system, doh).await
    }

    /// A lookup that is not waited for goes on in a thread of its own, so their number is bounded.
    pub(crate) async fn of_system(&self, host: &str, family: Family) -> io::Result<Vec<IpAddr>> {
        let Ok(asking) = self.asking.clone().try_acquire_owned() else {
            return Err(io::Error::other("too many of its lookups hang"));
        };
        let host = host.to_owned();
        let lookup = tokio::spawn(async move {
            // The port is for the form's sake.
            let found = tokio::net::lookup_host((host, 0)).await;
            drop(asking);
            found.map(|found| taken(found.map(|address| address.ip()), family))
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// The first answer that is one: the system's, if it comes in time, else that over HTTPS.
async fn first<T>(
    host: &str,
    system: Option<impl Future<Output = io::Result<Vec<T>>>>,
    doh: Option<impl Future<Output = io::Result<Vec<T>>>>,
) -> io::Result<Vec<T>> {
    let mut said = Vec::new();
    if let Some(system) = system {
        let answer = timeout(SYSTEM_TIMEOUT, system).await;
        match answer.unwrap_or_else(|_| Err(io::Error::other("no answer"))) {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) => said.push("the system: nothing".to_owned()),
            Err(error) => said.push(format!("the system: {error}")),
        }
    }
    if let Some(doh) = doh {
        match doh.await {
            Ok(found) if !found.is_empty() => {
                if let Some(why) = said.first() {
                    tracing::info!(host, why, "DoH fallback: found by DNS over HTTPS");
                }
                return Ok(found);
            }
            Ok(_) => said.push("DNS over HTTPS: nothing".to_owned()),
            Err(error) => said.push(format!("DNS over HTTPS: {error}")),
        }
    }
    Err(unknown(host, &said))
}

fn unknown(host: &str, said: &[String]) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the name {host} is unknown: {}", said.join("; ")),
    )
}

async fn of_resolver(
    resolver: &TokioResolver,
    host: &str,
    family: Family,
) -> io::Result<Vec<IpAddr>> {
    // Without the dot at the end the search list of this machine would be tried.
    let found = resolver.lookup_ip(format!("{host}.")).await;
    let found = found.map_err(io::Error::other)?;
    Ok(taken(found.iter(), family))
}

fn taken(found: impl Iterator<Item = IpAddr>, family: Family) -> Vec<IpAddr> {
    let mut taken: Vec<IpAddr> = found.filter(|ip| family.takes(ip)).collect();
    taken.dedup();
    taken.truncate(MAX_ADDRESSES);
    taken
}

async fn texts(resolver: &TokioResolver, name: &str) -> io::Result<Vec<Multiaddr>> {
    let found = resolver.txt_lookup(format!("{name}.")).await;
    let found = found.map_err(io::Error::other)?;
    let entry = |data: &RData| {
        let RData::TXT(text) = data else { return None };
        let text = text.txt_data.concat();
        std::str::from_utf8(&text)
            .ok()?
            .strip_prefix(DNSADDR.0)?
            .parse()
            .ok()
    };
    Ok(found
        .answers()
        .iter()
        .filter_map(|record| entry(&record.data))
        .take(MAX_ENTRIES)
        .collect())
}

/// Where there is no configuration of the system, as in many containers, nobody is asked.
fn system() -> Option<TokioResolver> {
    let built = TokioResolver::builder_tokio().and_then(|mut builder| {
        let options = builder.options_mut();
        options.timeout = SYSTEM_TIMEOUT / 2;
        options.attempts = 1;
        builder.build()
    });
    built
        .inspect_err(|error| tracing::info!(%error, "the system has no resolver"))
        .ok()
}

fn over_https(config: &NameConfig, inspection: Inspection) -> Result<Option<TokioResolver>, Fault> {
    if config.doh.len() > MAX_DOH_SERVERS {
        return Err(invalid(format!("at most {MAX_DOH_SERVERS} resolvers")));
    }
    if config.doh.is_empty() {
        return match config.doh_only {
            true => Err(invalid("nobody is left to ask for names")),
            false => Ok(None),
        };
    }
    let servers = config.doh.iter().map(server).collect();
    let mut options = ResolverOpts::default();
    options.timeout = DOH_TIMEOUT;
    options.attempts = DOH_ATTEMPTS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // What is in this machine's file of hosts was the system's to say.
    options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    TokioResolver::builder_with_config(
        ResolverConfig::from_name_servers(servers),
        TokioRuntimeProvider::default(),
    )
    .with_options(options)
    .with_tls_config(tls(&config.doh_authorities, inspection)?)
    .build()
    .map(Some)
    .map_err(|error| invalid(error.to_string()))
}

fn server(server: &DohServer) -> NameServerConfig {
    let mut config = NameServerConfig::https(server.at.ip(), server.name.as_str().into(), None);
    for connection in &mut config.connections {
        connection.port = server.at.port();
    }
    // One that is told to deny a name is no reason not to ask the next.
    config.trust_negative_responses = false;
    config
}

/// Where a site opens TLS by leave of the operator, it opens that of resolvers too.
fn tls(authorities: &[u8], inspection: Inspection) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if inspection == Inspection::DangerouslyAllowed {
        roots.roots.extend(local_authorities()?.roots);
    }
    for authority in CertificateDer::pem_slice_iter(authorities) {
        let authority = authority.map_err(|error| invalid(format!("an authority: {error}")))?;
        roots
            .add(authority)
            .map_err(|error| invalid(format!("an authority: {error}")))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn invalid(why: impl fmt::Display) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "invalid_doh_server",
        format!("DNS over HTTPS cannot be set up: {why}"),
    )
    .hint("name resolvers as name@ip, or leave the built-in ones")
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};

    use super::*;

    type Answer = Ready<io::Result<Vec<u8>>>;

    fn failed() -> Answer {
        ready(Err(io::Error::other("refused")))
    }

    fn found(what: &[u8]) -> Answer {
        ready(Ok(what.to_vec()))
    }

    #[tokio::test]
    async fn what_the_system_says_is_taken_and_nobody_else_is_asked() {
        let asked = first("host", Some(found(&[1])), Some(pending()));
        assert_eq!(asked.await.unwrap(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_system_fails_knows_nothing_or_is_silent_https_is_asked() {
        let by_https = || Some(found(&[2]));
        assert_eq!(
            first("host", Some(failed()), by_https()).await.unwrap(),
            [2]
        );
        assert_eq!(
            first("host", Some(found(&[])), by_https()).await.unwrap(),
            [2]
        );
        let silent = Some(pending());
        assert_eq!(first("host", silent, by_https()).await.unwrap(), [2]);
        assert_eq!(
            first("host", None::<Answer>, by_https()).await.unwrap(),
            [2]
        );
    }

    #[tokio::test]
    async fn what_everybody_said_is_told_where_nobody_knows() {
        let error = first("host", Some(failed()), Some(found(&[])))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the name host is unknown: the system: refused; DNS over HTTPS: nothing"
        );
        let alone = first("host", Some(found(&[])), None::<Answer>).await;
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
