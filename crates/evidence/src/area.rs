//! What a run was about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault};

/// Areas with nothing below them.
const AREAS: [&str; 7] = [
    "attestation",
    "churn",
    "diffusion-mesh",
    "e2e",
    "firecracker-rootfs",
    "firewall-traversal",
    "quickstart",
];
/// The area with one folder for each provider.
const CLOUD: &str = "cloud-adapter/";
/// Characters of a provider's name.
const MAX_PROVIDER: usize = 32;

/// One of the areas of the contract, e.g. `firewall-traversal` or `cloud-adapter/aws`. It is also a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Area(String);

impl Area {
    /// What firewalls let through.
    pub fn firewall_traversal() -> Self {
        Self("firewall-traversal".to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Area {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let is_provider = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            (1..=MAX_PROVIDER).contains(&name.len()) && name.bytes().all(plain)
        };
        match AREAS.contains(&text) || text.strip_prefix(CLOUD).is_some_and(is_provider) {
            true => Ok(Self(text.to_owned())),
            false => Err(Fault::new(
                Category::InvalidInput,
                "unknown_area",
                format!("{text:?} is no area of evidence"),
            )
            .hint(format!(
                "areas are {} and {CLOUD}<provider>",
                AREAS.join(", ")
            ))),
        }
    }
}

impl TryFrom<String> for Area {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Area> for String {
    fn from(area: Area) -> Self {
        area.0
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_areas_of_the_contract_are_known_and_no_path_is_one() {
        for known in ["firewall-traversal", "e2e", "churn", "cloud-adapter/aws"] {
            assert_eq!(known.parse::<Area>().unwrap().as_str(), known);
        }
        assert_eq!(
            Area::firewall_traversal().as_str().parse::<Area>().unwrap(),
            Area::firewall_traversal()
        );
        let long = format!("{CLOUD}{}", "a".repeat(MAX_PROVIDER + 1));
        for unknown in [
            "",
            "mesh",
            "cloud-adapter/",
            "cloud-adapter/..",
            "cloud-adapter/a/b",
            "../churn",
            &long,
        ] {
            assert_eq!(
                unknown.parse::<Area>().unwrap_err().code(),
                "unknown_area",
                "{unknown}"
            );
        }
    }
}
