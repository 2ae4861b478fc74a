//! The images of a node: imported, listed, inspected and let go where waiting for disk and network is allowed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use worldcompute_content::{ContentStore, Limits};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_image::registry::Options;
use worldcompute_image::{
    Choice, ImageStore, Inspection, Listed, Platform, Progress, Registry, Removed, Request, Source,
    source,
};

use crate::blocking::blocking;
use crate::config::Config;
use crate::home::{Home, OpenHome};

/// The most imports that run at once: each has a thread of its own, and may wait for a registry.
const MAX_IMPORTS: usize = 2;

/// What is to be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// Where it is.
    pub source: ImageSource,
    /// What it is called there, where there are several.
    pub select: Option<String>,
    /// What it is to be called here; what its source calls it, unless said.
    pub name: Option<String>,
    /// What it has to run on; Linux on this machine's processor, unless said.
    pub platform: Option<Platform>,
    /// Whether a registry may be spoken to by plain http.
    pub allow_insecure_http: bool,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A folder or a file of this machine, absolute.
    Path(PathBuf),
    /// A registry, as `name:tag` or `host:port/name@sha256:...`.
    Registry(String),
}

/// The images of a home. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    store: Arc<ImageStore>,
    /// One permit for each import that may run.
    imports: Arc<Semaphore>,
}

impl Images {
    /// Those of a home that this process owns.
    ///
    /// # Errors
    /// `image_list_unreadable`; what the disk says.
    pub fn open(home: &OpenHome, config: &Config) -> Result<Self> {
        Self::with(home.paths(), content(home.paths(), config)?)
    }

    /// Those of a content store that is open.
    pub(crate) fn with(home: &Home, content: ContentStore) -> Result<Self> {
        Ok(Self::of(ImageStore::open(home.images(), content)?))
    }

    fn of(store: ImageStore) -> Self {
        Self {
            store: Arc::new(store),
            imports: Arc::new(Semaphore::new(MAX_IMPORTS)),
        }
    }

    /// Imports an image. `progress` is told how far it is, and ends it with an error.
    ///
    /// # Errors
    /// `too_many_imports` where as many as may be run already; those of [`ImageStore::import`].
    pub async fn import(
        &self,
        request: ImageRequest,
        mut progress: impl FnMut(Progress) -> Result<()> + Send + 'static,
    ) -> Result<Listed> {
        let permit = self.imports.clone().try_acquire_owned();
        let permit = permit.map_err(|_| too_many_imports())?;
        let store = self.store.clone();
        blocking(move || {
            let _permit = permit;
            let mut source = open(&request)?;
            let platform = request.platform.unwrap_or_else(Platform::host);
            let request = Request {
                name: request.name.or_else(|| name_of(&request.source)),
                choice: Choice {
                    platform,
                    name: request.select,
                },
                ..Request::default()
            };
            store.import(&mut *source, &request, &mut progress)
        })
        .await
    }

    /// All of them, in the order in which they came in.
    pub fn list(&self) -> Vec<Listed> {
        self.store.images()
    }

    /// Reads one again, by its name or CID, and verifies all of it.
    ///
    /// # Errors
    /// Those of [`ImageStore::inspect`].
    pub async fn inspect(&self, name: String) -> Result<Inspection> {
        let store = self.store.clone();
        blocking(move || store.inspect(&name)).await
    }

    /// Lets one go.
    ///
    /// # Errors
    /// Those of [`ImageStore::remove`].
    pub async fn remove(&self, name: String) -> Result<Removed> {
        let store = self.store.clone();
        blocking(move || store.remove(&name)).await
    }
}

/// The content store of a home. What one object may be is bounded where it comes in: a layer may be as large as all of it.
/// It collects nothing before somebody knows what jobs need: see [`crate::needed`].
pub fn content(home: &Home, config: &Config) -> Result<ContentStore> {
    let limits = Limits {
        max_object: config.content_bytes,
        max_total: config.content_bytes,
    };
    ContentStore::open(home.content(), limits)
}

fn open(request: &ImageRequest) -> Result<Box<dyn Source>> {
    match &request.source {
        ImageSource::Path(path) => source::at(path),
        ImageSource::Registry(reference) => {
            let options = Options {
                allow_insecure_http: request.allow_insecure_http,
                ..Options::default()
            };
            Ok(Box::new(Registry::new(reference.parse()?, options)?))
        }
    }
}

fn too_many_imports() -> Fault {
    let message = format!("{MAX_IMPORTS} images are being imported, which is the most at once");
    Fault::new(Category::StateContention, "too_many_imports", message)
        .hint("run it again when one of them is done")
}

/// An image of a registry is called as it was asked for.
fn name_of(source: &ImageSource) -> Option<String> {
    match source {
        ImageSource::Registry(reference) => Some(reference.clone()),
        ImageSource::Path(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_import_too_many_is_to_be_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        let store = ImageStore::open(dir.path().join("images.json"), content).unwrap();
        let images = Images::of(store);
        let import = || async {
            let request = ImageRequest {
                source: ImageSource::Path(dir.path().to_owned()),
                select: None,
                name: None,
                platform: None,
                allow_insecure_http: false,
            };
            images.import(request, |_| Ok(())).await.unwrap_err()
        };
        let one = images.imports.clone().try_acquire_owned().unwrap();
        assert_eq!(import().await.code(), "not_an_image");
        let two = images.imports.clone().try_acquire_owned().unwrap();
        let fault = import().await;
        assert_eq!(
            (fault.code(), fault.retryable()),
            ("too_many_imports", true)
        );
        drop((one, two));
        assert_eq!(import().await.code(), "not_an_image");
    }
}
