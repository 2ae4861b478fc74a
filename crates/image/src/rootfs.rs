//! The disk that an image's layers make.

use std::io::{self, Read};

use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Sha256;
use worldcompute_rootfs::{Assembly, Cache, CachedImage, Devices, DiffId, Limits, Recipe, Size};

use crate::furnishing::Furnishing;
use crate::image::Image;

/// How a disk is made.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// What is done with device nodes.
    pub devices: Devices,
    /// How large it is to be.
    pub size: Size,
    /// What the layers may come to.
    pub limits: Limits,
    /// Asked before every piece that is read: it may wait, and its error ends the work.
    pub go_on: &'a dyn Fn() -> Result<()>,
}

/// The layers of an image, and over them what the job brings, as one ext4 disk: the one in the cache, or else one that is
/// made of the layers in the content store, which are verified again on the way. Images of the same layers share a disk.
///
/// # Errors
/// `object_missing` for a layer or an input that is not there; those of [`Cache::rootfs`] and [`Assembly::layer`]; that of
/// [`Making::go_on`].
pub fn rootfs(
    content: &ContentStore,
    image: &Image,
    furnishing: &Furnishing,
    cache: &Cache,
    making: Making<'_>,
) -> Result<CachedImage> {
    let made = make(content, image, furnishing, cache, making);
    made.or_else(|fault| {
        // Whatever the reading broke off as, this may be why.
        (making.go_on)()?;
        Err(fault)
    })
}

fn make(
    content: &ContentStore,
    image: &Image,
    furnishing: &Furnishing,
    cache: &Cache,
    making: Making<'_>,
) -> Result<CachedImage> {
    let Making { devices, size, .. } = making;
    let watched = |source| Watched {
        source,
        go_on: making.go_on,
    };
    let over = match furnishing.is_empty() {
        true => None,
        false => Some(id(&digest(watched(furnishing.layer(content)?))?)),
    };
    let diff_ids = image.layers().map(|(_, diff_id)| id(diff_id));
    let recipe = Recipe {
        layers: &diff_ids.chain(over).collect::<Vec<_>>(),
        devices,
        size,
    };
    cache.rootfs(&recipe, |scratch| {
        let empty = Assembly::new(making.limits, devices, scratch)?;
        let image = image
            .layers()
            .try_fold(empty, |assembly, (blob, diff_id)| {
                let layer: Box<dyn Read> = Box::new(content.reader(&blob.cid())?);
                assembly.layer(blob, Some(id(diff_id)), watched(layer))
            })?;
        match over {
            None => Ok(image),
            Some(_) => {
                let layer = watched(furnishing.layer(content)?);
                image.layer("the inputs of the job", over, layer)
            }
        }
    })
}

/// A layer whose reader may be told to wait, or to end.
struct Watched<'a> {
    source: Box<dyn Read>,
    go_on: &'a dyn Fn() -> Result<()>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.go_on)().map_err(io::Error::other)?;
        self.source.read(buffer)
    }
}

fn digest(layer: impl Read) -> Result<Sha256> {
    let (digest, _) =
        Sha256::of_reader(layer).map_err(|error| Fault::io("read the inputs of a job", &error))?;
    Ok(digest)
}

fn id(diff_id: &Sha256) -> DiffId {
    DiffId::from(*diff_id.as_bytes())
}
