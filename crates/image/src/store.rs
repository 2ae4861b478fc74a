//! The images of a node: what is pinned in its content store, and what it is called.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_content::{ContentStore, PinName};
use worldcompute_durable::{self as durable, Mode};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, Sha256, canonical_json, from_canonical_json};

use crate::image::Image;
use crate::import::{self, Progress, Request};
use crate::platform::Platform;
use crate::refusal::{excerpt, invalid};
use crate::source::Source;
use crate::unpack::{self, MAX_UNPACKED_BYTES};

/// The most images of a node.
pub const MAX_IMAGES: usize = 1_000;
/// The most names of all images together.
pub const MAX_NAMES: usize = 4_000;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// The largest list that is read, in bytes.
const MAX_LIST_BYTES: usize = 8 << 20;
/// What pins of images begin with.
const PIN: &str = "image:";

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
    /// When it was made, as it says itself.
    pub created: Option<String>,
    /// When it came in, RFC 3339.
    pub imported_at: Timestamp,
}

/// What is known of an image, after all of it was read again and verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspection {
    /// As it is listed.
    #[serde(flatten)]
    pub listed: Listed,
    /// The digest of its manifest, as registries write it.
    pub digest: String,
    /// The name of its configuration in the content store.
    pub config: Cid,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of all layers, unpacked.
    pub unpacked: u64,
    /// Words before the command.
    pub entrypoint: Vec<String>,
    /// The command, unless a job says another.
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// As whom it runs, as it is spelled in the image.
    pub user: String,
    /// In which directory.
    pub cwd: String,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name in the content store.
    pub cid: Cid,
    /// Bytes as it is kept.
    pub size: u64,
    /// The digest of what it unpacks to.
    pub diff_id: Sha256,
    /// Bytes of that.
    pub unpacked: u64,
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
struct List {
    version: u32,
    images: Vec<Listed>,
}

/// The images of one content store. One process has it, as it has the content store.
pub struct ImageStore {
    path: PathBuf,
    content: ContentStore,
    list: Mutex<List>,
}

impl ImageStore {
    /// Opens the list at `path`, which need not be there yet. Pins of images that are not listed, as a crash leaves them, are
    /// removed.
    ///
    /// # Errors
    /// `image_list_unreadable`; what the disk says.
    pub fn open(path: impl Into<PathBuf>, content: ContentStore) -> Result<Self> {
        let path = path.into();
        let list = match durable::read_private(&path, MAX_LIST_BYTES as u64) {
            Ok(bytes) => List::parse(&bytes)?,
            Err(fault) if fault.code() == "not_found" => List::new(),
            Err(fault) => return Err(fault),
        };
        for pin in content.pins() {
            let of_image = pin.as_str().strip_prefix(PIN);
            if of_image
                .is_some_and(|cid| !list.images.iter().any(|image| image.cid.to_string() == cid))
            {
                content.unpin(&pin)?;
            }
        }
        Ok(Self {
            path,
            content,
            list: Mutex::new(list),
        })
    }

    /// Imports one image: all of it, or nothing that stays. `progress` is told of it, and ends it with an error.
    ///
    /// # Errors
    /// `invalid_image_name`, `too_many_images`; those of the source; every check has a code of its own.
    pub fn import(
        &self,
        source: &mut dyn Source,
        request: &Request,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Listed> {
        request.name.as_deref().map_or(Ok(()), check_name)?;
        let arrived = import::bring_in(&self.content, source, request, progress)?;
        // What a stranger calls an image is taken where it can be one.
        let own = arrived.name.clone().filter(|name| check_name(name).is_ok());
        let name = request.name.clone().or(own);
        let mut list = self.list();
        let next = list.with(&arrived.image, name)?;
        let parts = arrived.image.parts().map(|blob| blob.cid());
        let (pin, is_new) = (
            pin_name(&arrived.image.cid())?,
            !list.has(&arrived.image.cid()),
        );
        self.content.pin(&pin, parts)?;
        if let Err(fault) = self.write(&next) {
            if is_new {
                self.content.unpin(&pin)?;
            }
            return Err(fault);
        }
        *list = next;
        list.find(&arrived.image.cid().to_string()).cloned()
    }

    /// All images, in the order in which they came in.
    pub fn images(&self) -> Vec<Listed> {
        self.list().images.clone()
    }

    /// The image of that CID or name.
    ///
    /// # Errors
    /// `image_unknown`.
    pub fn find(&self, name: &str) -> Result<Listed> {
        self.list().find(name).cloned()
    }

    /// Reads all of an image again, and verifies it.
    ///
    /// # Errors
    /// `image_unknown`; `verification_failed` and `object_missing` for what is no longer what was imported.
    pub fn inspect(&self, name: &str) -> Result<Inspection> {
        let listed = self.find(name)?;
        let image = Image::read(&self.content, &listed.cid)?;
        let layers: Vec<_> = image
            .layers()
            .map(|(blob, diff_id)| self.layer(blob, diff_id))
            .collect::<Result<_>>()?;
        let config = image.config();
        Ok(Inspection {
            digest: format!("sha256:{}", listed.cid.digest()),
            config: image.manifest().config.cid(),
            unpacked: layers.iter().map(|layer| layer.unpacked).sum(),
            layers,
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            user: config.user.to_string(),
            cwd: config.cwd.clone(),
            listed,
        })
    }

    /// Lets an image go: by its CID with all of its names, by a name that one, and the image with the last. Its bytes go when
    /// the content store is collected, unless somebody else needs them.
    ///
    /// # Errors
    /// `image_unknown`; what the disk says.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let mut list = self.list();
        let (next, removed) = list.without(name)?;
        self.write(&next)?;
        *list = next;
        if removed.image {
            self.content.unpin(&pin_name(&removed.cid)?)?;
        }
        Ok(removed)
    }

    fn layer(&self, blob: &crate::Blob, diff_id: &Sha256) -> Result<Layer> {
        let reader = self.content.reader(&blob.cid())?;
        Ok(Layer {
            cid: blob.cid(),
            size: blob.size(),
            diff_id: *diff_id,
            unpacked: unpack::verify(reader, &blob.to_string(), diff_id, MAX_UNPACKED_BYTES)?,
        })
    }

    fn write(&self, list: &List) -> Result<()> {
        durable::write_atomic(&self.path, &canonical_json(list)?, Mode::Private)
    }

    /// Nothing changes it but whole assignments, so that a poisoned lock is as good as any.
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    const VERSION: u32 = 1;

    fn new() -> Self {
        Self {
            version: Self::VERSION,
            images: Vec::new(),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let list: Self = from_canonical_json(bytes, MAX_LIST_BYTES).map_err(unreadable)?;
        match list.version {
            Self::VERSION => Ok(list),
            version => Err(unreadable(invalid(
                "unsupported_version",
                format!("version {version}"),
            ))),
        }
    }

    fn has(&self, cid: &Cid) -> bool {
        self.images.iter().any(|image| image.cid == *cid)
    }

    fn find(&self, name: &str) -> Result<&Listed> {
        let is_it = |image: &&Listed| {
            image.cid.to_string() == name || image.names.iter().any(|own| own == name)
        };
        self.images.iter().find(is_it).ok_or_else(|| unknown(name))
    }

    /// The list with an image, which takes its name from whoever had it.
    fn with(&self, image: &Image, name: Option<String>) -> Result<Self> {
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
            return Err(invalid("too_many_images", message)
                .hint("remove images with: worldcompute image rm"));
        }
        Ok(next)
    }

    fn without(&self, name: &str) -> Result<(Self, Removed)> {
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

fn pin_name(cid: &Cid) -> Result<PinName> {
    format!("{PIN}{cid}").parse()
}

/// A name is one line of plain characters, and no CID: that would be the name of another image.
fn check_name(name: &str) -> Result<()> {
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
