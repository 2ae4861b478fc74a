//! The images of a node: what is pinned in its content store, and what it is called.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use worldcompute_content::{ContentStore, PinName};
use worldcompute_durable::{self as durable, Mode};
use worldcompute_fault::Result;
use worldcompute_proof::{Cid, Sha256};

use crate::image::Image;
use crate::import::{self, Arrived, Progress, Request};
use crate::list::{List, Listed, MAX_LIST_BYTES, Removed, check_name};
use crate::source::Source;
use crate::unpack::{self, MAX_UNPACKED_BYTES};

/// What pins of images begin with.
const PIN: &str = "image:";

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
    /// `invalid_image_name`, `image_name_taken`, `too_many_images`, `image_list_full`; those of the source; every check has a
    /// code of its own.
    pub fn import(
        &self,
        source: &mut dyn Source,
        request: &Request,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Listed> {
        request.name.as_deref().map_or(Ok(()), check_name)?;
        let mut put = Vec::new();
        let imported = import::bring_in(&self.content, source, request, progress, &mut put)
            .and_then(|arrived| self.add(arrived, request));
        if imported.is_err() {
            self.discard(put);
        }
        imported
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

    /// Lets an image go: by its CID with all of its names, by a name that one, and the image with the last. Its bytes go
    /// with it, unless somebody else needs them.
    ///
    /// # Errors
    /// `image_unknown`; what the disk says.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let mut list = self.list();
        let (next, removed) = list.without(name)?;
        self.write(&next)?;
        *list = next;
        if removed.image {
            let pin = pin_name(&removed.cid)?;
            let parts = self.content.pinned(&pin).unwrap_or_default();
            self.content.unpin(&pin)?;
            self.content.remove_unneeded(parts)?;
        }
        Ok(removed)
    }

    fn add(&self, arrived: Arrived, request: &Request) -> Result<Listed> {
        let mut list = self.list();
        let name = match &request.name {
            Some(name) => Some(name.clone()),
            None => list.own_name(&arrived.image.cid(), arrived.name)?,
        };
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

    /// Removes what an import put that failed. That it failed is what its user has to know; what stays is only in the way.
    fn discard(&self, put: Vec<Cid>) {
        if let Err(fault) = self.content.remove_unneeded(put) {
            tracing::warn!(%fault, "parts of an image that did not come in stay in the content store");
        }
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
        durable::write_atomic(&self.path, &list.to_bytes()?, Mode::Private)
    }

    /// Nothing changes it but whole assignments, so that a poisoned lock is as good as any.
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pin_name(cid: &Cid) -> Result<PinName> {
    format!("{PIN}{cid}").parse()
}
