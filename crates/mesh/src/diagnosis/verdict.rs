//! What all of it comes to: who is in the way, and what to ask for.

use serde::{Deserialize, Serialize};

use super::probe::{Probe, ProbeKind, ProbeState};
use super::rehearsal::FirstPath;

/// What is in the way of World Compute here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// Its name, which stays: see the documentation of `firewall-diagnose`.
    pub name: String,
    /// `silent`, `refused`, `inspected` or `lies`.
    pub how: ProbeState,
    /// What it does, in plain words.
    pub what: String,
    /// What to ask those for who run the network.
    pub ask: String,
}

/// What a diagnosis comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The name of the blocker that matters most, or `nothing_blocked`.
    pub blocker: String,
    /// All of it in a sentence or two.
    pub summary: String,
    /// Everything that is in the way, what matters most first.
    pub blockers: Vec<Blocker>,
}

/// From what was tried to who is in the way.
pub(super) fn of(probes: &[Probe], path: Option<&FirstPath>) -> Verdict {
    let seen = Seen(probes);
    let mut blockers: Vec<Blocker> = [
        inspection(&seen),
        names(&seen),
        relays(&seen, path),
        web(&seen),
    ]
    .into_iter()
    .flatten()
    .collect();
    blockers.extend(ports(&seen));
    blockers.extend(https_names(&seen));
    if !seen.is_reached() && path.is_none() {
        // Nothing at all came through: what each of them says says the same.
        blockers
            .retain(|blocker| matches!(blocker.name.as_str(), "tls_inspection" | "dns_filtered"));
        blockers.push(no_way_out(&seen));
    }
    let blocker = blockers
        .first()
        .map_or("nothing_blocked", |first| first.name.as_str());
    Verdict {
        blocker: blocker.to_owned(),
        summary: summary(&blockers, path),
        blockers,
    }
}

/// The probes, asked.
struct Seen<'a>(&'a [Probe]);

impl Seen<'_> {
    fn of(&self, kind: ProbeKind) -> impl Iterator<Item = &Probe> {
        let known = |probe: &&Probe| probe.state != ProbeState::Unknown;
        self.0
            .iter()
            .filter(move |probe| probe.kind == kind)
            .filter(known)
    }

    fn any(&self, kind: ProbeKind, state: ProbeState) -> bool {
        self.of(kind).any(|probe| probe.state == state)
    }

    fn works(&self, kind: ProbeKind) -> bool {
        self.any(kind, ProbeState::Works)
    }

    fn is_reached(&self) -> bool {
        [ProbeKind::Quic, ProbeKind::Tcp, ProbeKind::Wss]
            .into_iter()
            .any(|kind| self.works(kind))
    }

    /// How a kind is blocked, where it was tried and never works. A refusal says more than silence.
    fn blocked(&self, kind: ProbeKind) -> Option<ProbeState> {
        let first = self.of(kind).next()?;
        if self.works(kind) {
            return None;
        }
        let refused = self.any(kind, ProbeState::Refused);
        Some(if refused {
            ProbeState::Refused
        } else {
            first.state
        })
    }

    /// Whether the port of the web is open on the way.
    fn web_is_open(&self) -> bool {
        self.works(ProbeKind::WebTcp) || self.works(ProbeKind::Wss)
    }
}

fn blocker(
    name: &str,
    how: ProbeState,
    what: impl Into<String>,
    ask: impl Into<String>,
) -> Blocker {
    Blocker {
        name: name.to_owned(),
        how,
        what: what.into(),
        ask: ask.into(),
    }
}

fn in_words(how: ProbeState) -> &'static str {
    match how {
        ProbeState::Refused => "is refused",
        _ => "vanishes",
    }
}

fn inspection(seen: &Seen<'_>) -> Option<Blocker> {
    let shown = seen
        .of(ProbeKind::WebTls)
        .find(|probe| probe.state == ProbeState::Inspected)?;
    let issuer = shown
        .certificate
        .as_ref()
        .map_or("somebody else", |seen| seen.issuer.as_str());
    Some(blocker(
        "tls_inspection",
        ProbeState::Inspected,
        format!(
            "A box on the way ends TLS to port 443 and shows a certificate of its own ({issuer})."
        ),
        "Ask to exempt connections to the relays from TLS inspection. Where that cannot be, --allow-ssl-inspection joins \
         through the box, which sees what a firewall sees and no content, once its authority is trusted on this machine.",
    ))
}

fn names(seen: &Seen<'_>) -> Option<Blocker> {
    let wrong = |probe: &&Probe| {
        matches!(
            probe.state,
            ProbeState::Lies | ProbeState::Silent | ProbeState::Refused
        )
    };
    let wrong = seen.of(ProbeKind::SystemDns).find(wrong)?;
    let why = wrong.cause.as_deref().unwrap_or("it does not say why");
    Some(blocker(
        "dns_filtered",
        wrong.state,
        format!(
            "The network's resolver is of no use for {}: {why}.",
            wrong.target
        ),
        "Ask to let the names of the relays through the resolver's filter. A daemon finds them by DNS over HTTPS meanwhile.",
    ))
}

/// The ports of the mesh itself.
fn ports(seen: &Seen<'_>) -> Vec<Blocker> {
    // What fails otherwise, as where another peer answers, is not the network's doing.
    let by_network = |how: &ProbeState| matches!(how, ProbeState::Silent | ProbeState::Refused);
    let blocked = |kind| seen.blocked(kind).filter(by_network);
    let udp = blocked(ProbeKind::Udp);
    let (quic, tcp) = (blocked(ProbeKind::Quic), blocked(ProbeKind::Tcp));
    let only_web = udp.or(quic).is_some() && tcp.is_some() && seen.web_is_open();
    match (udp, quic, tcp) {
        (Some(how), _, Some(tcp)) if only_web => vec![only_web_passes(stronger(how, tcp))],
        (None, Some(how), Some(tcp)) if only_web && seen.of(ProbeKind::Udp).next().is_none() => {
            vec![only_web_passes(stronger(how, tcp))]
        }
        (udp, quic, tcp) => {
            let by_udp = match (udp, quic) {
                (Some(how), _) => Some(udp_blocked(how)),
                (None, Some(how)) => Some(quic_blocked(how)),
                (None, None) => None,
            };
            by_udp.into_iter().chain(tcp.map(tcp_blocked)).collect()
        }
    }
}

/// Of two ways to block, the one that says so.
const fn stronger(one: ProbeState, other: ProbeState) -> ProbeState {
    match (one, other) {
        (ProbeState::Refused, _) | (_, ProbeState::Refused) => ProbeState::Refused,
        _ => ProbeState::Silent,
    }
}

fn only_web_passes(how: ProbeState) -> Blocker {
    blocker(
        "only_443",
        how,
        format!(
            "Nothing leaves this network but TCP to port 443; what else is sent {}.",
            in_words(how)
        ),
        "Ask to let UDP and TCP to port 19999 of the relays out. Until then everything runs over WebSocket and TLS through a \
         relay, which works and is slower.",
    )
}

fn udp_blocked(how: ProbeState) -> Blocker {
    blocker(
        "udp_blocked",
        how,
        format!("UDP does not leave this network: it {}.", in_words(how)),
        "Ask to let UDP to port 19999 of the relays out, and its answers in. Until then connections run over TCP.",
    )
}

fn quic_blocked(how: ProbeState) -> Blocker {
    blocker(
        "quic_blocked",
        how,
        "UDP passes, and a connection over QUIC does not come about: something on the way knows it and drops it.",
        "Ask to let QUIC to the relays through. Until then connections run over TCP.",
    )
}

fn tcp_blocked(how: ProbeState) -> Blocker {
    blocker(
        "mesh_port_blocked",
        how,
        format!("TCP to the port of the mesh {}.", in_words(how)),
        "Ask to let TCP to port 19999 of the relays out.",
    )
}

/// What is between the port of the web and a WebSocket.
fn web(seen: &Seen<'_>) -> Option<Blocker> {
    let how = seen.blocked(ProbeKind::Wss)?;
    if seen.any(ProbeKind::WebTls, ProbeState::Inspected) {
        return None;
    }
    let (name, what) = if let Some(how) = seen.blocked(ProbeKind::WebTcp) {
        (
            "web_blocked",
            format!("TCP to port 443 of the relays {}.", in_words(how)),
        )
    } else if seen.blocked(ProbeKind::WebTls).is_some() {
        (
            "tls_blocked",
            "TCP to port 443 passes, and TLS to the relays does not: something on the way ends it."
                .to_owned(),
        )
    } else {
        ("websocket_blocked", "TLS to the relays passes, and a WebSocket in it does not: a proxy on the way takes it out.".to_owned())
    };
    Some(blocker(
        name,
        how,
        what,
        "Ask to let connections to port 443 of the relays through as they are.",
    ))
}

/// Relays are reached, and none keeps an address: that is not the network's doing.
fn relays(seen: &Seen<'_>, path: Option<&FirstPath>) -> Option<Blocker> {
    let is_lost = path.is_none() && seen.is_reached();
    is_lost.then(|| {
        blocker(
            "no_reservation",
            ProbeState::Refused,
            "Relays are reached, and none of them keeps an address for this machine: that is theirs, not the network's.",
            "Name another relay.",
        )
    })
}

fn https_names(seen: &Seen<'_>) -> Option<Blocker> {
    let how = seen.blocked(ProbeKind::HttpsDns)?;
    let blocks = matches!(
        how,
        ProbeState::Silent | ProbeState::Refused | ProbeState::Inspected
    );
    blocks.then(|| {
        blocker(
            "doh_blocked",
            how,
            "DNS over HTTPS is not to be had: names are found by the network's resolver, or not at all.",
            "Name a resolver that is with --doh, or ask to let one through; where the network's resolver is honest it is not needed.",
        )
    })
}

fn no_way_out(seen: &Seen<'_>) -> Blocker {
    let refused = [
        ProbeKind::Tcp,
        ProbeKind::Udp,
        ProbeKind::Wss,
        ProbeKind::WebTcp,
    ]
    .into_iter()
    .any(|kind| seen.any(kind, ProbeState::Refused));
    let how = match refused {
        true => ProbeState::Refused,
        false => ProbeState::Silent,
    };
    blocker(
        "no_way_out",
        how,
        "No relay was reached in any way: this network lets nothing out to them, or they are down.",
        "Try from another network to tell the two apart; then ask to let TCP to port 443 of the relays out.",
    )
}

fn summary(blockers: &[Blocker], path: Option<&FirstPath>) -> String {
    let blocked = match blockers {
        [] => "Nothing is blocked.".to_owned(),
        blockers => {
            let told: Vec<&str> = blockers
                .iter()
                .map(|blocker| blocker.what.as_str())
                .collect();
            told.join(" ")
        }
    };
    let way = match path {
        Some(path) => format!(
            "A daemon here reaches its relay over {}{}, and has an address after {} ms.",
            path.transport,
            if path.inspected { ", inspected" } else { "" },
            path.first_reservation_ms
        ),
        None => "A daemon here would have no address at which others reach it.".to_owned(),
    };
    format!("{blocked} {way}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::probe::SeenCertificate;
    use super::*;
    use ProbeKind::{HttpsDns, Quic, SystemDns, Tcp, Udp, WebTcp, WebTls, Wss};
    use ProbeState::{Failed, Inspected, Lies, Refused, Silent, Unknown, Works};

    fn probes(states: &[(ProbeKind, ProbeState)]) -> Vec<Probe> {
        let probe = |(kind, state): &(ProbeKind, ProbeState)| match state {
            Works => Probe::works(*kind, "t", Duration::ZERO),
            state => Probe::not(*kind, "t", *state, Duration::ZERO, "why"),
        };
        states.iter().map(probe).collect()
    }

    fn path(transport: &str) -> FirstPath {
        FirstPath {
            relay: "12D3".to_owned(),
            transport: transport.to_owned(),
            inspected: false,
            first_reservation_ms: 12,
        }
    }

    /// The blockers by name, with how they block.
    fn blockers(
        states: &[(ProbeKind, ProbeState)],
        path: Option<FirstPath>,
    ) -> Vec<(String, ProbeState)> {
        let verdict = of(&probes(states), path.as_ref());
        let first = verdict
            .blockers
            .first()
            .map_or("nothing_blocked", |first| &first.name);
        assert_eq!(verdict.blocker, first);
        verdict
            .blockers
            .into_iter()
            .map(|blocker| (blocker.name, blocker.how))
            .collect()
    }

    fn named(name: &str, how: ProbeState) -> Vec<(String, ProbeState)> {
        vec![(name.to_owned(), how)]
    }

    #[test]
    fn where_everything_passes_nothing_is_blocked() {
        let all = [
            (Quic, Works),
            (Udp, Works),
            (Tcp, Works),
            (WebTcp, Works),
            (WebTls, Works),
            (Wss, Works),
            (SystemDns, Works),
            (HttpsDns, Works),
        ];
        assert!(blockers(&all, Some(path("quic"))).is_empty());
        let verdict = of(&probes(&all), Some(&path("quic")));
        assert_eq!(
            verdict.summary,
            "Nothing is blocked. A daemon here reaches its relay over quic, and has an address after 12 ms."
        );
    }

    #[test]
    fn what_blocks_is_told_by_its_name_and_its_manner() {
        let rest = [(WebTcp, Works), (WebTls, Works), (Wss, Works)];
        let with = |states: &[(ProbeKind, ProbeState)]| {
            blockers(&[states, &rest].concat(), Some(path("wss")))
        };
        assert_eq!(
            with(&[(Quic, Silent), (Udp, Silent), (Tcp, Works)]),
            named("udp_blocked", Silent)
        );
        assert_eq!(
            with(&[(Quic, Silent), (Udp, Refused), (Tcp, Works)]),
            named("udp_blocked", Refused)
        );
        assert_eq!(
            with(&[(Quic, Silent), (Udp, Works), (Tcp, Works)]),
            named("quic_blocked", Silent)
        );
        assert_eq!(
            with(&[(Quic, Works), (Udp, Works), (Tcp, Refused)]),
            named("mesh_port_blocked", Refused)
        );
        assert_eq!(
            with(&[(Quic, Silent), (Udp, Silent), (Tcp, Silent)]),
            named("only_443", Silent)
        );
        assert_eq!(
            with(&[(Quic, Silent), (Udp, Refused), (Tcp, Refused)]),
            named("only_443", Refused)
        );
    }

    #[test]
    fn another_peer_at_an_address_blocks_nothing() {
        let states = [(Quic, Works), (Udp, Works), (Tcp, Failed)];
        assert!(blockers(&states, Some(path("quic"))).is_empty());
    }

    #[test]
    fn one_relay_that_answers_shows_that_the_way_is_open() {
        let states = [
            (Quic, Silent),
            (Quic, Works),
            (Udp, Silent),
            (Udp, Works),
            (Tcp, Refused),
            (Tcp, Works),
        ];
        assert!(blockers(&states, Some(path("quic"))).is_empty());
    }

    #[test]
    fn the_web_is_blocked_where_its_way_ends() {
        let web = |states: [(ProbeKind, ProbeState); 3]| {
            blockers(
                &[&[(Quic, Works), (Udp, Works), (Tcp, Works)][..], &states].concat(),
                Some(path("quic")),
            )
        };
        assert_eq!(
            web([(WebTcp, Silent), (WebTls, Unknown), (Wss, Silent)]),
            named("web_blocked", Silent)
        );
        assert_eq!(
            web([(WebTcp, Works), (WebTls, Refused), (Wss, Refused)]),
            named("tls_blocked", Refused)
        );
        assert_eq!(
            web([(WebTcp, Works), (WebTls, Works), (Wss, Failed)]),
            named("websocket_blocked", Failed)
        );
    }

    #[test]
    fn a_box_that_opens_tls_is_named_first_with_its_issuer() {
        let mut probes = probes(&[
            (Quic, Silent),
            (Udp, Silent),
            (Tcp, Silent),
            (WebTcp, Works),
            (Wss, Inspected),
        ]);
        probes.push(Probe {
            certificate: Some(SeenCertificate {
                sha256: "ab".to_owned(),
                subject: "CN=relay".to_owned(),
                issuer: "CN=corp".to_owned(),
                expected: "another".to_owned(),
            }),
            ..Probe::not(WebTls, "t", Inspected, Duration::ZERO, "why")
        });
        let refused = of(&probes, None);
        assert_eq!(
            (refused.blocker.as_str(), refused.blockers.len()),
            ("tls_inspection", 2)
        );
        assert!(refused.summary.contains("CN=corp"), "{}", refused.summary);
        let mut inspected = path("wss");
        inspected.inspected = true;
        let allowed = of(&probes, Some(&inspected));
        let names: Vec<&str> = allowed
            .blockers
            .iter()
            .map(|blocker| blocker.name.as_str())
            .collect();
        assert_eq!(names, ["tls_inspection", "only_443"]);
        assert!(
            allowed.summary.contains("over wss, inspected"),
            "{}",
            allowed.summary
        );
    }

    #[test]
    fn a_resolver_of_no_use_is_named_and_one_that_was_not_asked_is_not() {
        let open = [(Quic, Works), (Udp, Works), (Tcp, Works)];
        let with = |state| {
            blockers(
                &[&open[..], &[(SystemDns, state)]].concat(),
                Some(path("quic")),
            )
        };
        for state in [Lies, Silent, Refused] {
            assert_eq!(with(state), named("dns_filtered", state));
        }
        for state in [Works, Unknown, Failed] {
            assert!(with(state).is_empty());
        }
        let doh = |state| {
            blockers(
                &[&open[..], &[(HttpsDns, state)]].concat(),
                Some(path("quic")),
            )
        };
        assert_eq!(doh(Inspected), named("doh_blocked", Inspected));
        assert!(doh(Failed).is_empty());
    }

    #[test]
    fn where_no_relay_is_reached_that_is_all_there_is_to_say() {
        let silent = [
            (Quic, Silent),
            (Udp, Silent),
            (Tcp, Silent),
            (WebTcp, Silent),
            (Wss, Silent),
        ];
        assert_eq!(blockers(&silent, None), named("no_way_out", Silent));
        let down = [(Quic, Silent), (Udp, Refused), (Tcp, Refused)];
        assert_eq!(blockers(&down, None), named("no_way_out", Refused));
    }

    #[test]
    fn relays_that_keep_no_address_are_not_the_networks_doing() {
        let open = [(Quic, Works), (Udp, Works), (Tcp, Works)];
        assert_eq!(blockers(&open, None), named("no_reservation", Refused));
    }
}
