//! The images of a node: imported, listed, inspected and let go where waiting for disk and network is allowed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use worldcompute_content::{ContentStore, Limits};
use worldcompute_fault::Result;
use worldcompute_image::registry::Options;
use worldcompute_image::{
    Choice, ImageStore, Inspection, Listed, Platform, Progress, Registry, Removed, Request, Source,
    source,
};

use crate::blocking::blocking;
use crate::config::Config;
use crate::home::{Home, OpenHome};

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
pub struct Images(Arc<ImageStore>);

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
        Ok(Self(Arc::new(ImageStore::open(home.images(), content)?)))
    }

    /// Imports an image. `progress` is told how far it is, and ends it with an error.
    ///
    /// # Errors
    /// Those of [`ImageStore::import`].
    pub async fn import(
        &self,
        request: ImageRequest,
        mut progress: impl FnMut(Progress) -> Result<()> + Send + 'static,
    ) -> Result<Listed> {
        let store = self.0.clone();
        blocking(move || {
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
        self.0.images()
    }

    /// Reads one again, by its name or CID, and verifies all of it.
    ///
    /// # Errors
    /// Those of [`ImageStore::inspect`].
    pub async fn inspect(&self, name: String) -> Result<Inspection> {
        let store = self.0.clone();
        blocking(move || store.inspect(&name)).await
    }

    /// Lets one go.
    ///
    /// # Errors
    /// Those of [`ImageStore::remove`].
    pub async fn remove(&self, name: String) -> Result<Removed> {
        let store = self.0.clone();
        blocking(move || store.remove(&name)).await
    }
}

/// The content store of a home. What one object may be is bounded where it comes in: a layer may be as large as all of it.
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

/// An image of a registry is called as it was asked for.
fn name_of(source: &ImageSource) -> Option<String> {
    match source {
        ImageSource::Registry(reference) => Some(reference.clone()),
        ImageSource::Path(_) => None,
    }
}
