//! What an address of this transport says, and what its listener is called outside.

use std::net::IpAddr;

use futures_rustls::rustls::pki_types::ServerName;
use libp2p::Multiaddr;
use libp2p::core::transport::TransportEvent;
use libp2p::multiaddr::Protocol;
use libp2p::multihash::Multihash;

use super::certificate::{Certificate, Fingerprint};

/// What is asked for. An address cannot choose it: it comes from strangers, and the request goes to whoever answers.
pub(super) const ROOT: &str = "/";
/// The code of SHA-256 in a multihash.
const SHA2_256: u64 = 0x12;

/// Where a dial goes: `/ip4/../tcp/../tls[/sni/<name>][/certhash/<of the certificate>]/ws`, or `../wss`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// The address below: IP and port.
    pub tcp: Multiaddr,
    /// Who TLS asks for.
    pub name: ServerName<'static>,
    /// The same for HTTP, with the port unless it is that of the web.
    pub host: String,
    /// The one certificate that is right.
    pub pin: Option<Fingerprint>,
}

impl Target {
    /// None for any other kind of address.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else {
            return None;
        };
        let layer = Layer::of(&mut parts)?;
        if !matches!(
            (parts.next(), parts.next()),
            (None | Some(Protocol::P2p(_)), None)
        ) {
            return None;
        }
        let (name, host) = match layer.sni {
            Some(name) => (ServerName::try_from(name.clone()).ok()?, name),
            None => (ServerName::IpAddress(ip.into()), in_url(ip)),
        };
        Some(Self {
            tcp: Multiaddr::from(ip).with(Protocol::Tcp(port)),
            name,
            host: if port == 443 {
                host
            } else {
                format!("{host}:{port}")
            },
            pin: layer.pin,
        })
    }
}

/// An IPv6 address has brackets there (RFC 3986, section 3.2.2).
fn in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// What comes after the port.
#[derive(Default)]
struct Layer {
    sni: Option<String>,
    pin: Option<Fingerprint>,
}

impl Layer {
    fn of<'a>(parts: &mut impl Iterator<Item = Protocol<'a>>) -> Option<Self> {
        let mut layer = Self::default();
        match parts.next()? {
            Protocol::Wss(path) => return (path == ROOT).then_some(layer),
            Protocol::Tls => {}
            _ => return None,
        }
        loop {
            match parts.next()? {
                Protocol::Sni(name) if layer.sni.is_none() => layer.sni = Some(name.into_owned()),
                Protocol::Certhash(hash) if layer.pin.is_none() => layer.pin = Some(pinned(&hash)?),
                Protocol::Ws(path) => return (path == ROOT).then_some(layer),
                _ => return None,
            }
        }
    }
}

fn pinned(hash: &Multihash<64>) -> Option<Fingerprint> {
    (hash.code() == SHA2_256)
        .then(|| hash.digest().try_into().ok())
        .flatten()
}

/// The TCP address below one to listen on: `/ip4/../tcp/../tls/ws`.
pub(super) fn listened(address: &Multiaddr) -> Option<Multiaddr> {
    let target = Target::of(address)?;
    target.pin.is_none().then_some(target.tcp)
}

/// What a listener's TCP address becomes for those outside.
#[derive(Clone)]
pub(super) struct Facade {
    suffix: Vec<Protocol<'static>>,
}

impl Facade {
    /// A certificate that no authority vouches for is named in the address, by its hash; one for a name is asked for by
    /// that name.
    pub(super) fn of(certificate: &Certificate) -> Self {
        let mut suffix = vec![Protocol::Tls];
        if let Some(name) = certificate.name() {
            suffix.push(Protocol::Sni(name.to_owned().into()));
        }
        if let Some(hash) = certificate
            .pin()
            .and_then(|pin| Multihash::wrap(SHA2_256, &pin).ok())
        {
            suffix.push(Protocol::Certhash(hash));
        }
        suffix.push(Protocol::Ws(ROOT.into()));
        Self { suffix }
    }

    /// The address, if it is one of this transport and names neither certificate nor host, with what this one is known by.
    pub(super) fn completed(&self, address: &Multiaddr) -> Option<Multiaddr> {
        let bare: Multiaddr = address
            .iter()
            .take_while(|part| *part != Protocol::Tls)
            .collect();
        let is_bare = bare.iter().count() + 2 == address.iter().count();
        (is_bare && address.iter().last() == Some(Protocol::Ws(ROOT.into()))).then(|| self.on(bare))
    }

    fn on(&self, tcp: Multiaddr) -> Multiaddr {
        self.suffix
            .iter()
            .fold(tcp, |address, part| address.with(part.clone()))
    }

    pub(super) fn seen_from_outside<U, E>(
        &self,
        event: TransportEvent<U, E>,
    ) -> TransportEvent<U, E> {
        match event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => TransportEvent::NewAddress {
                listener_id,
                listen_addr: self.on(listen_addr),
            },
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => TransportEvent::AddressExpired {
                listener_id,
                listen_addr: self.on(listen_addr),
            },
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } => TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr: self.on(local_addr),
                // Whoever dialled listens elsewhere, if at all: nothing is known but where they came from.
                send_back_addr: send_back_addr
                    .with(Protocol::Tls)
                    .with(Protocol::Ws(ROOT.into())),
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<Target> {
        Target::of(&text.parse().unwrap())
    }

    #[test]
    fn an_address_says_whom_to_ask_for() {
        let plain = target("/ip4/192.0.2.1/tcp/443/tls/ws").unwrap();
        assert_eq!(plain.tcp, "/ip4/192.0.2.1/tcp/443".parse().unwrap());
        assert_eq!(plain.host, "192.0.2.1");
        assert_eq!(plain.pin, None);
        let short = target("/ip4/192.0.2.1/tcp/443/wss").unwrap();
        assert_eq!(short, plain);
        let named = target("/ip4/192.0.2.1/tcp/8443/tls/sni/relay.example/ws").unwrap();
        assert_eq!(named.host, "relay.example:8443");
        assert_eq!(named.name, ServerName::try_from("relay.example").unwrap());
        let six = target("/ip6/2001:db8::1/tcp/443/tls/ws").unwrap();
        assert_eq!(six.host, "[2001:db8::1]");
    }

    #[test]
    fn a_pin_is_the_hash_of_one_certificate() {
        let certificate = Certificate::self_signed().unwrap().0;
        let address = Facade::of(&certificate).on("/ip4/192.0.2.1/tcp/443".parse().unwrap());
        let read = target(&address.to_string()).unwrap();
        assert!(read.pin.is_some());
        assert_eq!(read.pin, certificate.pin());
        let peer = libp2p::PeerId::random();
        assert_eq!(Target::of(&address.with(Protocol::P2p(peer))), Some(read));
    }

    #[test]
    fn other_addresses_are_left_to_other_transports() {
        let peer = libp2p::PeerId::random();
        let hash = Multihash::<64>::wrap(0x13, &[0; 32]).unwrap();
        let short = Multihash::<64>::wrap(SHA2_256, &[0; 31]).unwrap();
        let tls = |hash| {
            "/ip4/192.0.2.1/tcp/443/tls"
                .parse::<Multiaddr>()
                .unwrap()
                .with(Protocol::Certhash(hash))
                .with(Protocol::Ws(ROOT.into()))
        };
        for address in [
            "/ip4/192.0.2.1/tcp/443".to_owned(),
            "/ip4/192.0.2.1/tcp/443/ws".to_owned(),
            "/ip4/192.0.2.1/tcp/443/tls".to_owned(),
            "/ip4/192.0.2.1/udp/443/quic-v1".to_owned(),
            "/dns4/relay.example/tcp/443/tls/ws".to_owned(),
            "/ip4/192.0.2.1/tcp/443/tls/sni/a/sni/b/ws".to_owned(),
            "/ip4/192.0.2.1/tcp/443/tls/ws/tcp/1".to_owned(),
            "/ip4/192.0.2.1/tcp/443/tls/x-parity-ws/%2Fadmin%2Freboot".to_owned(),
            "/ip4/192.0.2.1/tcp/443/tls/x-parity-ws/.intranet".to_owned(),
            "/ip4/192.0.2.1/tcp/443/x-parity-wss/%2Fadmin".to_owned(),
            format!("/ip4/192.0.2.1/tcp/443/tls/ws/p2p/{peer}/p2p-circuit"),
            tls(hash).to_string(),
            tls(short).to_string(),
        ] {
            assert_eq!(target(&address), None, "{address}");
        }
    }

    #[test]
    fn a_listener_brings_no_pin() {
        let listened = |text: &str| listened(&text.parse().unwrap());
        assert_eq!(
            listened("/ip4/0.0.0.0/tcp/443/tls/ws"),
            Some("/ip4/0.0.0.0/tcp/443".parse().unwrap())
        );
        let certificate = Certificate::self_signed().unwrap().0;
        let pinned = Facade::of(&certificate).on("/ip4/0.0.0.0/tcp/443".parse().unwrap());
        assert_eq!(super::listened(&pinned), None);
    }
}
