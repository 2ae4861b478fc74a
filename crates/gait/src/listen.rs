//! Addresses to listen on.

use std::net::{IpAddr, SocketAddr};

use worldcompute_fault::{Category, Fault, Result};

/// Where services listen unless they are told otherwise.
pub const DEFAULT: &str = "127.0.0.1:8787";

/// The sockets of `host:port`: those of an address, or the loopback ones for `localhost`. Names are not looked up,
/// because who answers for a name may change.
///
/// `listen_address_invalid` for anything else.
pub fn parse(address: &str) -> Result<SocketAddr> {
    let address = address.trim();
    if let Some(port) = address.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| invalid(address))?;
        return Ok(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port));
    }
    address.parse().map_err(|_| invalid(address))
}

/// Whether only this machine can reach `address`.
pub fn is_loopback(address: &str) -> Result<bool> {
    parse(address).map(|address| address.ip().to_canonical().is_loopback())
}

fn invalid(address: &str) -> Fault {
    let message = format!("invalid listen address {address:?}");
    Fault::new(Category::InvalidInput, "listen_address_invalid", message)
        .hint("give an IP address and a port, such as 127.0.0.1:8787")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_count_as_loopback() {
        for (address, loopback) in [
            ("127.0.0.1:8787", true),
            ("127.9.9.9:1", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("10.0.0.1:80", false),
        ] {
            assert_eq!(is_loopback(address).unwrap(), loopback, "{address}");
        }
        for address in [
            "",
            ":8787",
            "127.0.0.1",
            "example.com:80",
            "localhost.evil.example:80",
            "localhost:x",
        ] {
            assert_eq!(
                is_loopback(address).unwrap_err().code(),
                "listen_address_invalid"
            );
        }
    }
}
