//! What a node shows and believes where it meets others in the guise of the web.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use worldcompute_durable::{self as durable, Mode};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_mesh::{Certificate, Inspection, MAX_PEM, MeshConfig, Multiaddr, NameConfig};

use crate::config::Config;
use crate::home::Home;
use crate::listen;

/// Applies what the operator chose about names and TLS, and listens for the web if that was asked for.
///
/// # Errors
/// `tls_certificate` for files that are no certificate and key; `invalid_doh_server`; those of reading and writing them.
pub fn configure(mesh: &mut MeshConfig, config: &Config, home: &Home) -> Result<()> {
    believe(mesh, config)?;
    let Some(port) = config.wss_port else {
        return Ok(());
    };
    listen::bind(port).map_err(|error| unusable(port, &error))?;
    let certificate = certificate(config, home)?;
    for address in &mut mesh.external {
        *address = certificate.complete(address.clone());
    }
    mesh.certificate = Some(Arc::new(certificate));
    for ip in ["/ip4/0.0.0.0", "/ip6/::"] {
        mesh.listen.push(address(ip, port)?);
    }
    Ok(())
}

/// Applies what the operator chose about names and TLS, and nothing else.
///
/// # Errors
/// `invalid_doh_server`; those of reading the authorities.
pub fn believe(mesh: &mut MeshConfig, config: &Config) -> Result<()> {
    mesh.names = names(config)?;
    if config.dangerously_allow_ssl_inspection {
        mesh.inspection = Inspection::DangerouslyAllowed;
    }
    Ok(())
}

fn names(config: &Config) -> Result<NameConfig> {
    let mut names = NameConfig {
        doh_only: config.doh_only,
        ..NameConfig::default()
    };
    if !config.doh.is_empty() {
        names.doh = config
            .doh
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_>>()?;
    }
    if let Some(path) = &config.doh_authorities {
        names.doh_authorities = durable::read_bounded(path, MAX_PEM as u64)?;
    }
    Ok(names)
}

/// Two listeners on one port would each get some of the connections, and the wrong certificate looks like inspection.
fn unusable(port: u16, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Fault::new(
            Category::InvalidInput,
            "port_not_permitted",
            format!("port {port} for --wss-listen is not for this user to listen on"),
        )
        .hint("allow it: sudo setcap cap_net_bind_service=+ep \"$(command -v worldcompute)\"; or choose one above 1023 and forward 443 to it");
    }
    Fault::new(
        Category::StateContention,
        "port_in_use",
        format!("port {port} for --wss-listen is in use"),
    )
    .hint("choose another with --wss-listen PORT, or end what has it")
}

fn address(ip: &str, port: u16) -> Result<Multiaddr> {
    let text = format!("{ip}/tcp/{port}/tls/ws");
    text.parse().map_err(|_| {
        Fault::new(
            Category::InternalFailure,
            "invalid_address",
            format!("{text} is no multiaddr"),
        )
    })
}

/// The operator's certificate, or the node's own: made once, so that addresses which name it stay true.
fn certificate(config: &Config, home: &Home) -> Result<Certificate> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Certificate::from_pem(
            &durable::read_bounded(certificate, MAX_PEM as u64)?,
            // A tool that renews certificates keeps links to the newest.
            &durable::read_private(&followed(key)?, MAX_PEM as u64)?,
        ),
        _ => own(&home.certificate()),
    }
}

fn followed(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|error| Fault::io(format!("read {}", path.display()), &error))
}

fn own(path: &Path) -> Result<Certificate> {
    if path.symlink_metadata().is_ok() {
        let both = durable::read_private(path, MAX_PEM as u64)?;
        return Certificate::from_pem(&both, &both);
    }
    let (certificate, pem) = Certificate::self_signed()?;
    durable::create_new(path, pem.as_bytes(), Mode::Private)?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(config: &Config, home: &Home) -> Result<MeshConfig> {
        let mut mesh = MeshConfig::new(worldcompute_proof::SigningKey::from_seed([1; 32]));
        configure(&mut mesh, config, home).map(|()| mesh)
    }

    fn on_the_web() -> Config {
        Config {
            wss_port: Some(0),
            ..Config::default()
        }
    }

    #[test]
    fn a_node_keeps_the_certificate_that_its_addresses_name() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let first = configured(&on_the_web(), &home).unwrap();
        let listen = first.listen.iter().map(ToString::to_string);
        assert_eq!(
            listen.collect::<Vec<_>>(),
            ["/ip4/0.0.0.0/tcp/0/tls/ws", "/ip6/::/tcp/0/tls/ws"]
        );
        let kept = std::fs::read(home.certificate()).unwrap();
        assert!(
            configured(&on_the_web(), &home)
                .unwrap()
                .certificate
                .is_some()
        );
        assert_eq!(std::fs::read(home.certificate()).unwrap(), kept);
    }

    #[test]
    fn without_being_asked_a_node_makes_no_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let mesh = configured(&Config::default(), &home).unwrap();
        assert!(mesh.certificate.is_none() && mesh.listen.is_empty());
        assert!(!home.certificate().exists());
    }

    #[test]
    fn a_certificate_that_is_none_is_refused_before_anything_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let file = directory.path().join("cert.pem");
        durable::write_atomic(&file, b"no certificate", Mode::Private).unwrap();
        let given = Config {
            tls_cert: Some(file.clone()),
            tls_key: Some(file.clone()),
            ..on_the_web()
        };
        let fault = configured(&given, &home).err().unwrap();
        assert_eq!(fault.code(), "tls_certificate");
        durable::write_atomic(&home.certificate(), b"spoilt", Mode::Private).unwrap();
        let fault = configured(&on_the_web(), &home).err().unwrap();
        assert_eq!(fault.code(), "tls_certificate");
        assert_eq!(std::fs::read(home.certificate()).unwrap(), b"spoilt");
    }

    #[test]
    fn an_external_address_names_the_certificate_that_is_shown_there() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let mut mesh = MeshConfig::new(worldcompute_proof::SigningKey::from_seed([1; 32]));
        let external = ["/dns4/relay.example/tcp/443/tls/ws", "/ip4/192.0.2.1/tcp/1"];
        mesh.external = external.map(|text| text.parse().unwrap()).into();
        configure(&mut mesh, &on_the_web(), &home).unwrap();
        let shown = mesh.external[0].to_string();
        assert!(
            shown.starts_with("/dns4/relay.example/tcp/443/tls/certhash/uEi"),
            "{shown}"
        );
        assert!(shown.ends_with("/ws"), "{shown}");
        assert_eq!(mesh.external[1].to_string(), external[1]);
    }

    #[test]
    fn a_port_that_needs_a_privilege_is_not_said_to_be_in_use() {
        let fault = unusable(443, &io::ErrorKind::PermissionDenied.into());
        assert_eq!(fault.code(), "port_not_permitted");
        assert!(fault.hint_text().contains("cap_net_bind_service"));
        let fault = unusable(443, &io::ErrorKind::AddrInUse.into());
        assert_eq!(fault.code(), "port_in_use");
    }

    #[test]
    fn a_taken_port_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let config = Config {
            wss_port: Some(listener.local_addr().unwrap().port()),
            ..Config::default()
        };
        let fault = configured(&config, &home).err().unwrap();
        assert_eq!(fault.code(), "port_in_use");
    }

    #[test]
    fn resolvers_are_those_that_were_named_or_the_built_in_ones() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let asks = |doh: &[&str]| Config {
            doh: doh.iter().map(ToString::to_string).collect(),
            doh_only: true,
            ..Config::default()
        };
        let built_in = configured(&asks(&[]), &home).unwrap().names;
        assert!(built_in.doh_only && built_in.doh.len() == 2);
        let named = configured(&asks(&["dns.example@192.0.2.1:8443"]), &home).unwrap();
        assert_eq!(named.names.doh[0].to_string(), "dns.example@192.0.2.1:8443");
        for wrong in [
            "1.1.1.1",
            "dns.example",
            "@1.1.1.1",
            "a b@1.1.1.1",
            "dns.example@host",
        ] {
            let fault = configured(&asks(&[wrong]), &home).err().unwrap();
            assert_eq!(fault.code(), "invalid_doh_server", "{wrong}");
        }
    }
}
