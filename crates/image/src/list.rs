//! The list of a node's images, and what they are called.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, canonical_json, from_canonical_json};

use crate::image::Image;
use crate::platform::Platform;
use crate::refusal::{excerpt, invalid};

/// The most images of a node.
pub const MAX_IMAGES: usize = 1_000;
/// The most names of all images together.
pub const MAX_NAMES: usize = 4_000;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// The largest list, in bytes.
pub const MAX_LIST_BYTES: usize = 8 << 20;
/// What makes room in it.
const REMOVE: &str = "remove images with: worldcompute image rm";

/// An image as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name for jobs (`oci+cid:<cid>`): the CID of its manifest.
    pub cid: Cid,
    /// Its names for people, in order. A name is that of one image at a time.
    pub names: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of manifest, configuration and layers as they are kept.
    pub size: u64,
    /// How many layers.
    pub layer_count: usize,
    /// When it was made, as it says itself, RFC 3339 in UTC.
    pub created: Option<String>,
    /// When it came in, RFC 3339.
    pub imported_at: Timestamp,
}

/// What `rm` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Which image.
    pub cid: Cid,
    /// Which names it lost.
    pub names: Vec<String>,
    /// Whether the image itself was let go: it had no other name.
    pub image: bool,
}

/// The list as it is on the disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    version: u32,
    pub images: Vec<Listed>,
}

impl List {
    const VERSION: u32 = 1;

    pub fn new() -> Self {
        Self {
            version: Self::VERSION,
            images: Vec::new(),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let list: Self = from_canonical_json(bytes, MAX_LIST_BYTES).map_err(unreadable)?;
        match list.version {
            Self::VERSION => Ok(list),
            version => Err(unreadable(invalid(
                "unsupported_version",
                format!("version {version}"),
            ))),
        }
    }

    pub fn has(&self, cid: &Cid) -> bool {
        self.images.iter().any(|image| image.cid == *cid)
    }

    pub fn find(&self, name: &str) -> Result<&Listed> {
        let is_it = |image: &&Listed| {
            image.cid.to_string() == name || image.names.iter().any(|own| own == name)
        };
        self.images.iter().find(is_it).ok_or_else(|| unknown(name))
    }

    /// What its source calls an image, where that can be a name.
    ///
    /// # Errors
    /// `image_name_taken` where another image has it: a stranger does not say what a user's names mean.
    pub fn own_name(&self, image: &Cid, name: Option<String>) -> Result<Option<String>> {
        let Some(name) = name.filter(|name| check_name(name).is_ok()) else {
            return Ok(None);
        };
        match self.find(&name) {
            Ok(other) if other.cid != *image => Err(taken(&name, &other.cid)),
            _ => Ok(Some(name)),
        }
    }

    /// As it is kept on the disk.
    ///
    /// # Errors
    /// `image_list_full` for what could not be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = canonical_json(self)?;
        if bytes.len() > MAX_LIST_BYTES {
            let message = format!("the list of images would have more than {MAX_LIST_BYTES} bytes");
            return Err(invalid("image_list_full", message).hint(REMOVE));
        }
        Ok(bytes)
    }

    /// The list with an image, which takes its name from whoever had it.
    pub fn with(&self, image: &Image, name: Option<String>) -> Result<Self> {
        let mut next = self.clone();
        if !next.has(&image.cid()) {
            next.images.push(listed(image));
        }
        if let Some(name) = name {
            for other in &mut next.images {
                other.names.retain(|own| *own != name);
                if other.cid == image.cid() {
                    other.names.push(name.clone());
                    other.names.sort_unstable();
                }
            }
        }
        let names: usize = next.images.iter().map(|image| image.names.len()).sum();
        if next.images.len() > MAX_IMAGES || names > MAX_NAMES {
            let message = format!("{MAX_IMAGES} images with {MAX_NAMES} names are the most");
            return Err(invalid("too_many_images", message).hint(REMOVE));
        }
        Ok(next)
    }

    pub fn without(&self, name: &str) -> Result<(Self, Removed)> {
        let found = self.find(name)?.clone();
        let is_last = found.names.iter().all(|own| own == name) || found.cid.to_string() == name;
        let mut next = self.clone();
        let names = if is_last {
            found.names
        } else {
            vec![name.to_owned()]
        };
        for image in next
            .images
            .iter_mut()
            .filter(|image| image.cid == found.cid)
        {
            image.names.retain(|own| !names.contains(own));
        }
        next.images
            .retain(|image| !is_last || image.cid != found.cid);
        let removed = Removed {
            cid: found.cid,
            names,
            image: is_last,
        };
        Ok((next, removed))
    }
}

fn listed(image: &Image) -> Listed {
    Listed {
        cid: image.cid(),
        names: Vec::new(),
        platform: image.config().platform.clone(),
        size: image.size(),
        layer_count: image.manifest().layers.len(),
        created: image.config().created.clone(),
        imported_at: Timestamp::now(),
    }
}

/// A name is one line of plain characters, and no CID: that would be the name of another image.
pub fn check_name(name: &str) -> Result<()> {
    let plain = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && name.parse::<Cid>().is_err() {
        return Ok(());
    }
    let message = format!("{} is no name for an image", excerpt(name));
    Err(invalid("invalid_image_name", message)
        .hint("write it as name:tag, in plain characters without spaces"))
}

fn unknown(name: &str) -> Fault {
    invalid(
        "image_unknown",
        format!("no image {} on this node", excerpt(name)),
    )
    .hint("see 'worldcompute image list', or import it")
}

fn taken(name: &str, by: &Cid) -> Fault {
    let message = format!(
        "the source calls its image {}, which is the name of {by}",
        excerpt(name)
    );
    invalid("image_name_taken", message)
        .hint("say what to call it with --name, which also moves a name")
}

fn unreadable(why: Fault) -> Fault {
    let message = "the list of images is not what this program wrote";
    Fault::new(
        Category::VerificationFailed,
        "image_list_unreadable",
        message,
    )
    .caused_by(why)
    .hint("restore images.json, or remove it and import the images again")
}
