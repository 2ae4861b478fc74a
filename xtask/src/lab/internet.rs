//! A small internet: a router, public machines, and sites with one machine behind a gate.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::claim::Claim;
use super::delay::Delay;
use super::namespace::Namespace;
use super::nat::Nat;
use super::profile::Profile;
use crate::shell::Result;

/// The router that everything public hangs on. Its links are numbered, and so are their networks: 20.0.N.0/24.
pub struct Internet<'a> {
    claim: &'a Claim,
    label: String,
    /// Ends before the router does.
    _distance: Option<Delay>,
    router: Namespace,
}

/// A machine with two public addresses.
pub struct Host {
    /// The machine.
    pub namespace: Namespace,
    /// 20.0.N.10 and 20.0.N.11.
    pub addresses: [Ipv4Addr; 2],
}

/// A machine behind a gate that is NAT and firewall.
pub struct Site {
    /// The gate. Its interfaces are `wan` and `lan`.
    pub gate: Namespace,
    /// The machine.
    pub host: Namespace,
    /// The address of the machine, as it knows it.
    pub inside: Ipv4Addr,
    /// That of the gate, as the machine knows it.
    pub near: Ipv4Addr,
    wan: Ipv4Addr,
    nat: Nat,
}

/// Two machines on one local network, behind a gate that has no way to anywhere.
pub struct Lan {
    gate: Namespace,
    machines: [Namespace; 2],
    number: u8,
}

impl<'a> Internet<'a> {
    /// An internet with nobody on it, across which a packet and its answer take `rtt`. All of its namespaces carry the
    /// label.
    pub fn make(claim: &'a Claim, label: &str, rtt: Duration) -> Result<Self> {
        let router = Namespace::make(claim, &format!("{label}-router"))?;
        forward(&router)?;
        let distance = match rtt.is_zero() {
            true => None,
            false => Some(Delay::at(&router, rtt)?),
        };
        Ok(Self {
            claim,
            label: label.to_owned(),
            _distance: distance,
            router,
        })
    }

    /// A public machine on link `number`.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        let namespace = self.machine(name)?;
        let addresses = [public(number, 10), public(number, 11)];
        self.link(number, &namespace, "eth0", addresses[0])?;
        namespace.ip(&format!("addr add {}/24 dev eth0", addresses[1]))?;
        namespace.ip(&format!("route add default via {}", public(number, 1)))?;
        Ok(Host {
            namespace,
            addresses,
        })
    }

    /// A site on link `number`, its machine in 192.168.N.0/24, or in 20.1.N.0/24 where there is no NAT.
    pub fn site(&self, name: &str, number: u8, nat: Nat, profile: Profile) -> Result<Site> {
        let gate = self.machine(&format!("{name}-gate"))?;
        let host = self.machine(name)?;
        let wan = public(number, 2);
        let lan = |last| match nat {
            Nat::None => Ipv4Addr::new(20, 1, number, last),
            _ => Ipv4Addr::new(192, 168, number, last),
        };
        forward(&gate)?;
        self.link(number, &gate, "wan", wan)?;
        gate.ip(&format!("route add default via {}", public(number, 1)))?;
        join(&gate, "lan", lan(1), &host, "eth0", lan(2))?;
        host.ip(&format!("route add default via {}", lan(1)))?;
        if nat == Nat::None {
            self.router
                .ip(&format!("route add {}/24 via {wan}", lan(0)))?;
        }
        gate.nft(&(nat.rules(lan(2), wan) + &profile.rules(nat)))?;
        Ok(Site {
            gate,
            host,
            inside: lan(2),
            near: lan(1),
            wan,
            nat,
        })
    }

    /// A local network on link `number`, its machines in 192.168.N.0/24.
    pub fn lan(&self, name: &str, number: u8) -> Result<Lan> {
        let gate = self.machine(&format!("{name}-gate"))?;
        let machines = [
            self.machine(&format!("{name}-one"))?,
            self.machine(&format!("{name}-other"))?,
        ];
        let address = |last| Ipv4Addr::new(192, 168, number, last);
        forward(&gate)?;
        self.link(number, &gate, "wan", public(number, 2))?;
        gate.ip("link add lan type bridge")?;
        gate.ip(&format!("addr add {}/24 dev lan", address(1)))?;
        gate.ip("link set lan up")?;
        for (port, machine) in (2..).zip(&machines) {
            gate.ip(&format!(
                "link add port{port} type veth peer name eth0 netns {}",
                machine.name()
            ))?;
            gate.ip(&format!("link set port{port} master lan up"))?;
            machine.ip(&format!("addr add {}/24 dev eth0", address(port)))?;
            machine.ip("link set eth0 up")?;
            machine.ip(&format!("route add default via {}", address(1)))?;
        }
        gate.nft(&Nat::PortRestricted.rules(address(2), public(number, 2)))?;
        Ok(Lan {
            gate,
            machines,
            number,
        })
    }

    fn machine(&self, name: &str) -> Result<Namespace> {
        Namespace::make(self.claim, &format!("{}-{name}", self.label))
    }

    fn link(&self, number: u8, to: &Namespace, interface: &str, address: Ipv4Addr) -> Result<()> {
        let own = format!("link{number}");
        join(
            &self.router,
            &own,
            public(number, 1),
            to,
            interface,
            address,
        )
    }
}

impl Lan {
    /// Its machines.
    pub fn machines(&self) -> [&Namespace; 2] {
        self.machines.each_ref()
    }

    /// From now on there is a way to everybody.
    pub fn connect(&self) -> Result<()> {
        let via = public(self.number, 1);
        self.gate
            .ip(&format!("route add default via {via}"))
            .map(drop)
    }
}

impl Site {
    /// From now on its firewall is another. What is established stays.
    pub fn reopen(&self, profile: Profile) -> Result<()> {
        let rules = profile.rules(self.nat);
        self.gate.nft(&format!("delete table ip firewall\n{rules}"))
    }

    /// What its gate translates by.
    pub fn nat(&self) -> Nat {
        self.nat
    }

    /// The address under which others see it.
    pub fn outside(&self) -> Ipv4Addr {
        match self.nat {
            Nat::None => self.inside,
            _ => self.wan,
        }
    }
}

fn public(number: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(20, 0, number, last)
}

/// A cable between two machines. It is never seen by anybody else: both ends come to be where they belong.
fn join(
    one: &Namespace,
    its: &str,
    address: Ipv4Addr,
    other: &Namespace,
    others: &str,
    other_address: Ipv4Addr,
) -> Result<()> {
    one.ip(&format!(
        "link add {its} type veth peer name {others} netns {}",
        other.name()
    ))?;
    for (namespace, interface, address) in [(one, its, address), (other, others, other_address)] {
        namespace.ip(&format!("addr add {address}/24 dev {interface}"))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}

fn forward(namespace: &Namespace) -> Result<()> {
    namespace.set("ipv4/ip_forward", "1")?;
    for interfaces in ["all", "default"] {
        namespace.set(&format!("ipv4/conf/{interfaces}/rp_filter"), "0")?;
    }
    Ok(())
}
