//! The folder of an OCI layout (image spec, "OCI Image Layout").
//!
//! A folder of a stranger's: below it no symbolic link is followed, and nothing is opened but files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::image::MediaType;
use rustix::fs::{Mode, OFlags, open, openat};
use worldcompute_fault::{Fault, Result};

use super::{Root, Source};
use crate::blob::Blob;
use crate::document::MAX_MANIFEST_BYTES;
use crate::refusal::invalid;

/// The largest `oci-layout`, in bytes: a version, and nothing else that is known.
const MAX_MARKER_BYTES: u64 = 4 << 10;

pub struct Layout {
    path: PathBuf,
    folder: OwnedFd,
}

impl Layout {
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())
            .map_err(|error| Fault::io(format_args!("open {}", path.display()), &error.into()))?;
        let layout = Self {
            path: path.to_owned(),
            folder,
        };
        let marker = layout
            .file(&["oci-layout"])
            .map_err(|error| not_a_layout(path, &error))?;
        check_version(&bounded(marker, MAX_MARKER_BYTES, "oci-layout")?)?;
        Ok(layout)
    }

    /// Opens a file step by step.
    fn file(&self, steps: &[&str]) -> io::Result<File> {
        let (name, folders) = steps.split_last().ok_or(io::ErrorKind::NotFound)?;
        let mut folder = self.folder.try_clone()?;
        for step in folders {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = openat(&folder, *step, flags, Mode::empty())?;
        }
        // A pipe would be waited for without NONBLOCK; it means nothing to a file.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, *name, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )),
        }
    }

    fn at(&self, steps: &[&str]) -> Result<File> {
        self.file(steps).map_err(|error| {
            let path = self.path.join(steps.join("/"));
            let fault = invalid(
                "layout_file_unusable",
                format!("cannot use {}", path.display()),
            );
            fault
                .caused_by(&error)
                .hint("give a whole layout of files and folders, without symbolic links")
        })
    }
}

impl Source for Layout {
    fn root(&mut self) -> Result<Root> {
        let index = self.at(&["index.json"])?;
        Ok(Root {
            bytes: bounded(index, MAX_MANIFEST_BYTES, "index.json")?,
            media_type: Some(MediaType::ImageIndex),
            is_list: true,
            digest: None,
        })
    }

    fn document(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        self.blob(blob)
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        let name = blob.digest().to_string();
        Ok(Box::new(self.at(&["blobs", "sha256", &name])?))
    }
}

/// Reads what has a limit and no digest.
pub fn bounded(reader: impl Read, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Fault::io(format_args!("read {what}"), &error))?;
    if bytes.len() as u64 > limit {
        let message = format!("{what} has more than {limit} bytes");
        return Err(invalid("image_too_large", message).hint("use a smaller image"));
    }
    Ok(bytes)
}

/// Layouts of version 1 stay readable for readers of 1.0.0.
pub fn check_version(marker: &[u8]) -> Result<()> {
    let read: serde_json::Value = worldcompute_proof::parse_json_strict(marker)?;
    let version = read
        .get("imageLayoutVersion")
        .and_then(serde_json::Value::as_str);
    match version {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(
            invalid("unsupported_layout", "oci-layout names no version 1")
                .hint("make the layout with imageLayoutVersion 1.0.0"),
        ),
    }
}

fn not_a_layout(path: &Path, error: &io::Error) -> Fault {
    invalid("not_an_image", format!("{} is no OCI layout: it has no file oci-layout", path.display()))
        .caused_by(error)
        .hint("give the folder of an OCI layout, an archive of one or of 'docker save', or name:tag of a registry")
}
