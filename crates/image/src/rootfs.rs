//! The disk that an image's layers make.

use worldcompute_content::ContentStore;
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;
use worldcompute_rootfs::{Assembly, Cache, CachedImage, Devices, DiffId, Limits, Recipe, Size};

use crate::furnishing::Furnishing;
use crate::image::Image;

/// The layers of an image, and over them what the job brings, as one ext4 disk: the one in the cache, or else one that is
/// made of the layers in the content store, which are verified again on the way. Images of the same layers share a disk.
///
/// # Errors
/// `object_missing` for a layer or an input that is not there; those of [`Cache::rootfs`] and [`Assembly::layer`].
pub fn rootfs(
    content: &ContentStore,
    image: &Image,
    furnishing: &Furnishing,
    cache: &Cache,
    devices: Devices,
    size: Size,
) -> Result<CachedImage> {
    let over = match furnishing.is_empty() {
        true => None,
        false => Some(id(&furnishing.digest(content)?)),
    };
    let diff_ids = image.layers().map(|(_, diff_id)| id(diff_id));
    let recipe = Recipe {
        layers: &diff_ids.chain(over).collect::<Vec<_>>(),
        devices,
        size,
    };
    cache.rootfs(&recipe, |scratch| {
        let empty = Assembly::new(Limits::default(), devices, scratch)?;
        let image = image
            .layers()
            .try_fold(empty, |assembly, (blob, diff_id)| {
                let layer = content.reader(&blob.cid())?;
                assembly.layer(blob, Some(id(diff_id)), layer)
            })?;
        match over {
            None => Ok(image),
            Some(_) => image.layer("the inputs of the job", over, furnishing.layer(content)?),
        }
    })
}

fn id(diff_id: &Sha256) -> DiffId {
    DiffId::from(*diff_id.as_bytes())
}
