//! Which of the images of an index is meant.

use std::fmt;
use std::str::FromStr;

use worldcompute_fault::{Fault, Result};

use crate::blob::Kind;
use crate::document::{Entry, Index};
use crate::refusal::{excerpt, invalid};

/// How many of the images that are there a refusal names.
const MAX_LISTED: usize = 20;

/// A system and a processor, spelled `linux/amd64` or `linux/arm/v7` (image spec, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's processor.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant
                .filter(|variant| !variant.is_empty())
                .map(str::to_owned),
        }
    }

    pub(crate) fn of(platform: &oci_spec::image::Platform) -> Self {
        Self::new(
            &platform.os().to_string(),
            &platform.architecture().to_string(),
            platform.variant().as_deref(),
        )
    }

    /// Whether what was made for `other` runs here. Where no variant is asked for, any will do.
    pub fn takes(&self, other: &Self) -> bool {
        let same = self.os == other.os && self.architecture == other.architecture;
        same && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Fault;

    /// `os/architecture` or `os/architecture/variant`; else `invalid_platform`.
    fn from_str(text: &str) -> Result<Self> {
        let is_word = |part: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (1..=32).contains(&part.len()) && part.bytes().all(plain)
        };
        let parts: Vec<_> = text.split('/').filter(is_word).collect();
        match (parts.as_slice(), text.matches('/').count()) {
            ([os, architecture], 1) => Ok(Self::new(os, architecture, None)),
            ([os, architecture, variant], 2) => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(invalid(
                "invalid_platform",
                format!("{} is no platform", excerpt(text)),
            )
            .hint("write it as linux/amd64")),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

/// Which image of a source is meant.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What it has to run on.
    pub platform: Platform,
    /// What it is called in a layout or an archive that holds several.
    pub name: Option<String>,
}

impl Default for Choice {
    /// The only image for Linux on this machine's processor.
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            name: None,
        }
    }
}

impl Choice {
    /// The entry that is meant. Of several for the platform the first is taken (image spec, "Image Index"), but not where
    /// an index lists images that have nothing to do with each other, as that of a layout does.
    ///
    /// # Errors
    /// `platform_not_available`, `image_name_unknown`, `image_ambiguous`; each lists what is there.
    pub(crate) fn of<'a>(&self, index: &'a Index, is_list: bool) -> Result<&'a Entry> {
        let fitting = self.fitting(self.named(index, is_list)?);
        let is_clear = !is_list && fitting.iter().all(|entry| entry.platform.is_some());
        match fitting.as_slice() {
            [] => {
                let message = format!("no image for {}", self.platform);
                Err(unchosen("platform_not_available", &message, index))
            }
            [first, rest @ ..] if is_clear || rest.iter().all(|other| same(first, other)) => {
                Ok(first)
            }
            _ => Err(unchosen("image_ambiguous", "several images", index)),
        }
    }

    /// The images that are called as is asked for. What cannot be read is none.
    fn named<'a>(&self, index: &'a Index, is_list: bool) -> Result<Vec<&'a Entry>> {
        let readable = index
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, Kind::Index | Kind::Manifest));
        let Some(name) = self.name.as_ref().filter(|_| is_list) else {
            return Ok(readable.collect());
        };
        let named: Vec<_> = readable
            .filter(|entry| entry.names().any(|own| own == name))
            .collect();
        if named.is_empty() {
            let message = format!("no image called {}", excerpt(name));
            return Err(unchosen("image_name_unknown", &message, index));
        }
        Ok(named)
    }

    /// Those for the platform; where there are none, those that say nothing of theirs, as their configurations do.
    fn fitting<'a>(&self, named: Vec<&'a Entry>) -> Vec<&'a Entry> {
        let (fitting, others): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|entry| self.fits(entry));
        match fitting.is_empty() {
            true => others
                .into_iter()
                .filter(|entry| entry.platform.is_none())
                .collect(),
            false => fitting,
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| self.platform.takes(platform))
    }
}

fn same(one: &Entry, other: &Entry) -> bool {
    one.descriptor.digest() == other.descriptor.digest()
}

fn unchosen(code: &'static str, why: &str, index: &Index) -> Fault {
    let shown = index.entries.iter().take(MAX_LISTED).map(|entry| {
        let name = entry
            .names()
            .next()
            .map(|name| format!(" {}", excerpt(name)));
        let platform = entry
            .platform
            .as_ref()
            .map(|platform| format!(" for {}", excerpt(&platform.to_string())));
        format!(
            "{}{}{}",
            entry.descriptor.digest(),
            name.unwrap_or_default(),
            platform.unwrap_or_default()
        )
    });
    let shown: Vec<_> = shown.collect();
    let more = index.entries.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let message = format!(
        "{why}; there is {}{more}",
        if shown.is_empty() {
            "nothing".to_owned()
        } else {
            shown.join(", ")
        }
    );
    invalid(code, message).hint("choose one of these with --platform or --select")
}
