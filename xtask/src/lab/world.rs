//! A whole cell: a relay's machine, two sites with resolvers, what inspects them, and a resolver over HTTPS.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::authority::Authority;
use super::claim::Claim;
use super::inspection;
use super::internet::{Host, Internet, Site};
use super::names::{RELAY, Record, Zone};
use super::resolver::{self, Names};
use super::scenario::Cell;
use super::service::Service;
use crate::shell::{Failure, Result};

/// What the resolver over HTTPS is called.
pub const DOH: &str = "doh.lab";
/// Where a machine keeps the authorities that it trusts, below `/etc`.
const TRUSTED: &str = "ssl/certs/ca-certificates.crt";

/// A cell without nodes.
pub struct World<'a> {
    /// For the relay.
    pub relay: Host,
    /// For the donor, and for the submitter.
    pub sites: [Site; 2],
    /// Answers over HTTPS, at its first address.
    pub doh: Host,
    /// Who vouches for the resolver over HTTPS.
    pub authority: Authority,
    /// The same, as a file.
    pub authorities: PathBuf,
    names: Names,
    _services: Vec<Service>,
    _internet: Internet<'a>,
}

impl<'a> World<'a> {
    /// Makes everything. All of its namespaces carry the label.
    pub fn make(claim: &'a Claim, label: &str, cell: Cell, rtt: Duration) -> Result<Self> {
        let internet = Internet::make(claim, label, rtt)?;
        let (relay, doh) = (internet.host("relay", 1)?, internet.host("doh", 4)?);
        let [donor, submitter] = cell.nats;
        let sites = [
            internet.site("donor", 2, donor, cell.profile)?,
            internet.site("submitter", 3, submitter, cell.profile)?,
        ];
        let authority = Authority::make("the lab")?;
        let names = Names::new(zone(&relay, &doh).into());
        let mut services = Vec::new();
        for site in &sites {
            site.host
                .configure("resolv.conf", &format!("nameserver {}\n", site.near))?;
            services.extend(resolver::start(
                &site.gate,
                site.near,
                &names,
                cell.profile.lie(),
            )?);
            if cell.profile.inspects() {
                let foreign = Authority::make("somebody in between")?;
                if cell.profile.trusts_inspection() {
                    site.host.configure(TRUSTED, &foreign.pem())?;
                }
                services.push(inspection::start(&site.gate, Arc::new(foreign))?);
            }
        }
        let [doh_at, _] = doh.addresses;
        services.push(resolver::start_https(
            &doh.namespace,
            doh_at,
            DOH,
            &authority,
            &names,
        )?);
        let authorities = claim.dir(label)?.join("authorities.pem");
        File::create(&authorities)
            .and_then(|mut file| file.write_all(authority.pem().as_bytes()))
            .map_err(|error| {
                Failure::new(format!("cannot write {}: {error}", authorities.display()))
            })?;
        Ok(Self {
            relay,
            sites,
            doh,
            authority,
            authorities,
            names,
            _services: services,
            _internet: internet,
        })
    }

    /// Lets the name of the relay stand for its addresses (`_dnsaddr`, as libp2p has it).
    pub fn publish(&self, addresses: &[&str]) {
        let records = addresses
            .iter()
            .map(|address| Record::Text(format!("dnsaddr={address}")));
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(format!("_dnsaddr.{RELAY}"), records.collect());
    }
}

fn zone(relay: &Host, doh: &Host) -> Zone {
    let hosts = [(RELAY, relay), (DOH, doh)];
    let named =
        hosts.map(|(name, host)| (name.to_owned(), vec![Record::Address(host.addresses[0])]));
    named.into()
}
