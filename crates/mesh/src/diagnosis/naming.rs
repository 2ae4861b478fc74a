//! Names: what the system's resolver says of them, beside what resolvers over HTTPS say.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::system_conf::read_system_conf;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::probe::{Probe, ProbeKind, ProbeState};
use crate::names::{DohServer, Family, NameConfig, Names, named};
use crate::wss::Inspection;

/// The port of DNS.
const DNS: u16 = 53;
/// Servers of the system that are asked themselves.
const MAX_SERVERS: usize = 2;
/// How long each of them may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(1);
const ASKED: usize = 2;
/// How long the system may take for an answer.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(5);
/// The same over HTTPS.
const HTTPS_PATIENCE: Duration = Duration::from_secs(6);
/// Answers that are told.
const MAX_TOLD: usize = 2;

/// What is asked for (RFC 1035, 3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The addresses of a host.
    Addresses(String, Family),
    /// The nodes that `/dnsaddr/<host>` stands for.
    Nodes(String),
}

impl Question {
    /// What has to be asked for before an address can be dialled.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        if let Some(host) = seed_name(address) {
            return Some(Self::Nodes(host));
        }
        named(address).map(|(host, family)| Self::Addresses(host, family))
    }

    fn name(&self) -> String {
        match self {
            Self::Addresses(host, _) => host.clone(),
            Self::Nodes(host) => format!("_dnsaddr.{host}"),
        }
    }

    const fn kind(&self) -> u16 {
        match self {
            Self::Addresses(_, Family::V6) => 28,
            Self::Addresses(..) => 1,
            Self::Nodes(_) => 16,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The name of several nodes, `/dnsaddr/<name>`.
pub(super) fn seed_name(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dnsaddr(host) => Some(host.into_owned()),
        _ => None,
    }
}

/// The name of a resolver over HTTPS: it is there whatever relays are called.
pub(super) fn of_resolver(server: &DohServer) -> Question {
    Question::Addresses(server.name().to_owned(), Family::Any)
}

/// Asks the system, and over HTTPS beside it. Sends nothing to port 53 where only HTTPS is to be asked.
pub(super) async fn compare(names: &Names, config: &NameConfig, question: Question) -> Probe {
    let (kind, target) = (ProbeKind::SystemDns, question.to_string());
    if config.doh_only {
        return Probe::unknown(
            kind,
            target,
            "nobody but resolvers over HTTPS is to be asked",
        );
    }
    let begun = Instant::now();
    let (system, https) = tokio::join!(
        timeout(SYSTEM_PATIENCE, by_system(names, &question)),
        timeout(HTTPS_PATIENCE, by_https(names, &question)),
    );
    let system = system.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let after = begun.elapsed();
    let truth = https
        .ok()
        .and_then(Result::ok)
        .filter(|found| !found.is_empty());
    match (system.unwrap_or_default(), truth) {
        (found, None) if !found.is_empty() => Probe::works(kind, target, after),
        (found, Some(truth)) if found.iter().any(|one| truth.contains(one)) => {
            Probe::works(kind, target, after)
        }
        (found, Some(truth)) if !found.is_empty() => {
            let why = format!(
                "it says {}, and DNS over HTTPS says {}",
                told(&found),
                told(&truth)
            );
            // A service may be in several places; a relay's nodes are those that it has.
            let state = match question {
                Question::Nodes(_) => ProbeState::Lies,
                Question::Addresses(..) => ProbeState::Works,
            };
            Probe::not(kind, target, state, after, why)
        }
        (_, truth) => {
            let (state, why) = why_not(&question, truth.as_deref()).await;
            Probe::not(kind, target, state, after, why)
        }
    }
}

async fn by_system(names: &Names, question: &Question) -> io::Result<Vec<String>> {
    match question {
        Question::Addresses(host, family) => {
            let found = names.of_system(host, *family).await?;
            Ok(found.iter().map(ToString::to_string).collect())
        }
        Question::Nodes(host) => names.nodes_by_system(host).await,
    }
}

async fn by_https(names: &Names, question: &Question) -> io::Result<Vec<String>> {
    match question {
        Question::Addresses(host, family) => names.addresses_over_https(host, *family).await,
        Question::Nodes(host) => names.nodes_over_https(host).await,
    }
}

fn told(found: &[String]) -> String {
    let first: Vec<&str> = found.iter().take(MAX_TOLD).map(String::as_str).collect();
    match found.len().saturating_sub(MAX_TOLD) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Asks the system's servers themselves, for the system says little of why it knows nothing.
async fn why_not(question: &Question, truth: Option<&[String]>) -> (ProbeState, String) {
    let servers = servers();
    if servers.is_empty() {
        return (
            ProbeState::Failed,
            "this machine has no resolver".to_owned(),
        );
    }
    let mut last = (ProbeState::Silent, String::new());
    for server in servers.into_iter().take(MAX_SERVERS) {
        let (state, what) = ask(server, question)
            .await
            .unwrap_or_else(|error| said(&error));
        last = (state, format!("the resolver {} {what}", server.ip()));
        if state != ProbeState::Silent {
            break;
        }
    }
    match (last.0, truth) {
        (ProbeState::Lies, Some(truth)) => (
            ProbeState::Lies,
            format!("{}; DNS over HTTPS says {}", last.1, told(truth)),
        ),
        (ProbeState::Lies, None) => (
            ProbeState::Failed,
            format!("{}, and DNS over HTTPS knows no better", last.1),
        ),
        (ProbeState::Works, _) => (
            ProbeState::Failed,
            format!("{}, and what it says is of no use", last.1),
        ),
        _ => last,
    }
}

fn said(error: &io::Error) -> (ProbeState, String) {
    match error.kind() {
        io::ErrorKind::TimedOut => (ProbeState::Silent, "does not answer".to_owned()),
        _ => (ProbeState::Refused, format!("cannot be asked: {error}")),
    }
}

fn servers() -> Vec<SocketAddr> {
    let Ok((config, _)) = read_system_conf() else {
        return Vec::new();
    };
    let ips = config.name_servers().iter().map(|server| server.ip);
    ips.map(|ip| SocketAddr::new(ip, DNS)).collect()
}

/// Asks one server, by a datagram.
async fn ask(server: SocketAddr, question: &Question) -> io::Result<(ProbeState, String)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let asked = message(rand::random(), &question.name(), question.kind());
    let mut bytes = [0; 1500];
    for _ in 0..ASKED {
        socket.send(&asked).await?;
        if let Ok(received) = timeout(PATIENCE, socket.recv(&mut bytes)).await {
            let length = received?;
            return Ok(judge(&asked, bytes.get(..length).unwrap_or_default()));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A question in the format of RFC 1035, 4.1.
fn message(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// What an answer is worth: by its header alone.
fn judge(asked: &[u8], answer: &[u8]) -> (ProbeState, String) {
    let nonsense = (ProbeState::Lies, "answers nonsense".to_owned());
    let &[one, two, flags, more, 0, 1, many, few, ..] = answer else {
        return nonsense;
    };
    // An answer to a plain question, and to this one.
    if asked.get(..2) != Some(&[one, two]) || flags & 0xf8 != 0x80 {
        return nonsense;
    }
    let lies = |what: &str| (ProbeState::Lies, what.to_owned());
    match (more & 0x0f, u16::from_be_bytes([many, few])) {
        (0, 0) => lies("says that there is nothing of that name"),
        (0, _) => (ProbeState::Works, "answers".to_owned()),
        (3, _) => lies("says that there is no such name"),
        (5, _) => (ProbeState::Refused, "refuses to say".to_owned()),
        (code, _) => (ProbeState::Failed, format!("fails with code {code}")),
    }
}

/// Asks one resolver over HTTPS, by itself.
pub(super) async fn over_https(config: &NameConfig, index: usize, question: Question) -> Probe {
    let kind = ProbeKind::HttpsDns;
    let Some(server) = config.doh.get(index) else {
        return Probe::unknown(kind, question.to_string(), "there is no such resolver");
    };
    let target = format!("{question} by {server}");
    let alone = NameConfig {
        doh_only: true,
        doh: vec![server.clone()],
        ..config.clone()
    };
    let names = match Names::new(&alone, Inspection::Refused) {
        Ok(names) => names,
        Err(fault) => return Probe::unknown(kind, target, fault.message()),
    };
    let begun = Instant::now();
    let failed = |state, why: &str| Probe::not(kind, target.clone(), state, begun.elapsed(), why);
    match timeout(HTTPS_PATIENCE, by_https(&names, &question)).await {
        Ok(Ok(found)) if !found.is_empty() => Probe::works(kind, target, begun.elapsed()),
        // It came through; what it knows is another matter.
        Ok(Ok(_)) => failed(ProbeState::Failed, "it knows nothing of that name"),
        Ok(Err(error)) => match greeted(server, config).await {
            // What stands below says more of why than the resolver does.
            Err(below) => Probe::failed(kind, target, begun.elapsed(), &below),
            Ok(()) => Probe::failed(kind, target, begun.elapsed(), &error),
        },
        Err(_) => failed(ProbeState::Silent, "no answer"),
    }
}

async fn greeted(server: &DohServer, config: &NameConfig) -> io::Result<()> {
    let greeting = timeout(HTTPS_PATIENCE, server.greet(&config.doh_authorities)).await;
    greeting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(change: impl FnOnce(&mut Vec<u8>)) -> ProbeState {
        let asked = message(0x1234, "relay.example", 16);
        let mut answer = asked.clone();
        answer[2] = 0x81;
        answer[3] = 0x80;
        change(&mut answer);
        judge(&asked, &answer).0
    }

    #[test]
    fn an_answer_is_judged_by_what_it_says_and_nonsense_is_a_lie() {
        assert_eq!(answer(|answer| answer[7] = 1), ProbeState::Works);
        assert_eq!(answer(|_| ()), ProbeState::Lies);
        assert_eq!(answer(|answer| answer[3] = 0x83), ProbeState::Lies);
        assert_eq!(answer(|answer| answer[3] = 0x85), ProbeState::Refused);
        assert_eq!(answer(|answer| answer[3] = 0x82), ProbeState::Failed);
        assert_eq!(answer(|answer| answer[2] = 0x01), ProbeState::Lies);
        assert_eq!(answer(|answer| answer[0] = 0), ProbeState::Lies);
        assert_eq!(answer(|answer| answer.truncate(7)), ProbeState::Lies);
        assert_eq!(answer(|answer| answer.clear()), ProbeState::Lies);
        assert_eq!(
            answer(|answer| answer.iter_mut().skip(2).for_each(|byte| *byte ^= 0xff)),
            ProbeState::Lies
        );
    }

    #[test]
    fn what_has_to_be_asked_for_follows_from_the_address() {
        let of = |text: &str| Question::of(&text.parse().unwrap());
        assert_eq!(
            of("/dnsaddr/relay.example"),
            Some(Question::Nodes("relay.example".to_owned()))
        );
        let host = Question::Addresses("relay.example".to_owned(), Family::V4);
        assert_eq!(of("/dns4/relay.example/tcp/443/tls/ws"), Some(host));
        assert_eq!(of("/ip4/192.0.2.1/tcp/1"), None);
    }
}
