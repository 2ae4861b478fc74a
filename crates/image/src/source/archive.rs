//! Images in a tar archive: that of an OCI layout, or what `docker save` makes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{
    Descriptor, DescriptorBuilder, Digest, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    SCHEMA_VERSION,
};
use serde::Deserialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, parse_json_within};

use super::layout::{bounded, check_version};
use super::tarball::{Section, Tarball};
use super::{Root, Source};
use crate::blob::{Blob, check_size};
use crate::config::MAX_CONFIG_BYTES;
use crate::document::{MAX_IMAGE_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES};
use crate::refusal::{excerpt, invalid};
use crate::unpack::Packing;

/// How many bytes tell what a file is.
const MAGIC_BYTES: u64 = 6;
/// Archives that a user may well have, and that are not read: bzip2 and xz, beside those of [`Packing`].
const PACKED: [&[u8]; 2] = [b"BZh", &[0xfd, b'7', b'z', b'X', b'Z']];
/// Where a manifest of an archive keeps its name.
const NAME: &str = "io.containerd.image.name";

/// Opens an archive. Newer versions of `docker save` make one that is a layout too, and is read as such: that has the
/// manifests as they were pushed.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    check_magic(path)?;
    let tarball = Tarball::open(path)?;
    if tarball.has("oci-layout") && tarball.has("index.json") {
        return Ok(Box::new(LayoutArchive::new(tarball)?));
    }
    if tarball.has("manifest.json") {
        return Ok(Box::new(DockerArchive::new(tarball)?));
    }
    Err(not_an_image(path))
}

/// A packed archive has no places to read from.
fn check_magic(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC_BYTES).read_to_end(&mut head));
    read.map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))?;
    if Packing::of(&head) != Packing::None || PACKED.iter().any(|magic| head.starts_with(magic)) {
        let message = format!("{} is packed", path.display());
        return Err(invalid("archive_compressed", message)
            .hint("unpack it to a tar file first, for instance with gunzip"));
    }
    Ok(())
}

/// A layout in an archive.
struct LayoutArchive {
    tarball: Tarball,
}

impl LayoutArchive {
    fn new(tarball: Tarball) -> Result<Self> {
        check_version(&bounded(
            tarball.read("oci-layout")?,
            MAX_MANIFEST_BYTES,
            "oci-layout",
        )?)?;
        Ok(Self { tarball })
    }
}

impl Source for LayoutArchive {
    fn root(&mut self) -> Result<Root> {
        let index = self.tarball.read("index.json")?;
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
        let name = format!("blobs/sha256/{}", blob.digest());
        Ok(Box::new(self.tarball.read(&name)?))
    }
}

/// What older versions of `docker save` make (Docker Image Specification v1.2, "Combined Image JSON + Filesystem
/// Changeset Format"). It has no manifests: they are made here, always the same from the same archive.
struct DockerArchive {
    tarball: Tarball,
    index: Vec<u8>,
    manifests: BTreeMap<Sha256, Vec<u8>>,
    /// Where the blobs are, by their digest.
    names: BTreeMap<Sha256, String>,
    /// What was hashed, by its place: a list may name one file any number of times, under any number of links.
    hashed: BTreeMap<u64, (Blob, Packing)>,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Saved {
    /// How many entries of an index it makes.
    fn entries(&self) -> usize {
        self.repo_tags
            .as_ref()
            .map_or(1, |names| names.len().max(1))
    }
}

impl DockerArchive {
    fn new(tarball: Tarball) -> Result<Self> {
        let list = bounded(
            tarball.read("manifest.json")?,
            MAX_MANIFEST_BYTES,
            "manifest.json",
        )?;
        let list = parse_json_within(&list, MAX_MANIFEST_BYTES as usize)?;
        let saved: Vec<Saved> = serde_json::from_value(list)
            .map_err(|error| wrong("it lists no images").caused_by(error))?;
        let entries: usize = saved.iter().map(Saved::entries).sum();
        if entries > MAX_INDEX_ENTRIES {
            return Err(wrong(&format!(
                "it lists {entries} images and names: {MAX_INDEX_ENTRIES} are the most"
            )));
        }
        let mut archive = Self {
            tarball,
            index: Vec::new(),
            manifests: BTreeMap::new(),
            names: BTreeMap::new(),
            hashed: BTreeMap::new(),
        };
        archive.describe(&saved)?;
        Ok(archive)
    }

    fn describe(&mut self, saved: &[Saved]) -> Result<()> {
        let mut entries = Vec::new();
        for image in saved {
            let manifest = self.manifest(image)?;
            let blob = Blob::of(&manifest);
            self.manifests.insert(blob.digest(), manifest);
            let names = image.repo_tags.as_deref().filter(|names| !names.is_empty());
            match names {
                None => entries.push(descriptor(&blob, MediaType::ImageManifest)?),
                Some(names) => entries.extend(
                    names
                        .iter()
                        .map(|name| named(&blob, name))
                        .collect::<Result<Vec<_>>>()?,
                ),
            }
        }
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .manifests(entries)
            .build();
        self.index = written(&index.map_err(|error| unmade(&error))?)?;
        Ok(())
    }

    fn manifest(&mut self, image: &Saved) -> Result<Vec<u8>> {
        if image.layers.len() > MAX_LAYERS {
            return Err(wrong(&format!(
                "it lists {} layers: {MAX_LAYERS} is the most",
                image.layers.len()
            )));
        }
        let (config, _) = self.hashed(&image.config, "the configuration", MAX_CONFIG_BYTES)?;
        let layers = image.layers.iter().map(|name| {
            let (layer, packing) = self.hashed(name, "a layer", MAX_IMAGE_BYTES)?;
            descriptor(&layer, packing.media_type())
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(&config, MediaType::ImageConfig)?)
            .layers(layers)
            .build();
        written(&manifest.map_err(|error| unmade(&error))?)
    }

    /// A file of the archive of at most `limit` bytes, by what they are.
    fn hashed(&mut self, name: &str, what: &str, limit: u64) -> Result<(Blob, Packing)> {
        let file = self.tarball.read(name)?;
        check_size(what, file.size(), limit)?;
        let place = file.offset();
        if let Some(known) = self.hashed.get(&place) {
            return Ok(*known);
        }
        let hash = |mut file: Section<'_>| -> io::Result<_> {
            let mut head = Vec::new();
            file.by_ref().take(MAGIC_BYTES).read_to_end(&mut head)?;
            let packing = Packing::of(&head);
            let (digest, size) = Sha256::of_reader(head.chain(file))?;
            Ok((Blob::new(digest, size), packing))
        };
        let hashed = hash(file).map_err(|error| cannot_read(name, &error))?;
        self.names.insert(hashed.0.digest(), name.to_owned());
        self.hashed.insert(place, hashed);
        Ok(hashed)
    }
}

impl Source for DockerArchive {
    fn root(&mut self) -> Result<Root> {
        Ok(Root {
            bytes: self.index.clone(),
            media_type: Some(MediaType::ImageIndex),
            is_list: true,
            digest: None,
        })
    }

    fn document(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        let manifest = self
            .manifests
            .get(&blob.digest())
            .ok_or_else(|| wrong("it lists no such image"))?;
        Ok(Box::new(manifest.as_slice()))
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        let name = self
            .names
            .get(&blob.digest())
            .ok_or_else(|| wrong("it lists no such layer"))?;
        Ok(Box::new(self.tarball.read(name)?))
    }
}

fn named(blob: &Blob, name: &str) -> Result<Descriptor> {
    let mut entry = descriptor(blob, MediaType::ImageManifest)?;
    entry.set_annotations(Some([(NAME.to_owned(), name.to_owned())].into()));
    Ok(entry)
}

fn descriptor(blob: &Blob, media_type: MediaType) -> Result<Descriptor> {
    let digest: Digest = blob.to_string().parse().map_err(|error| unmade(&error))?;
    let made = DescriptorBuilder::default()
        .media_type(media_type)
        .digest(digest)
        .size(blob.size())
        .build();
    made.map_err(|error| unmade(&error))
}

fn written(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    worldcompute_proof::canonical_json(document)
}

fn unmade(error: &oci_spec::OciSpecError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "manifest_not_made",
        "the archive's manifest cannot be made",
    )
    .caused_by(error)
}

fn cannot_read(name: &str, error: &io::Error) -> Fault {
    Fault::io(format_args!("read {} in the archive", excerpt(name)), error)
}

fn wrong(why: &str) -> Fault {
    invalid(
        "invalid_docker_archive",
        format!("manifest.json of the archive: {why}"),
    )
    .hint("save the image again")
}

fn not_an_image(path: &Path) -> Fault {
    let message = format!(
        "{} holds neither an OCI layout nor what 'docker save' makes",
        path.display()
    );
    invalid("not_an_image", message)
        .hint("make it with docker save, or with skopeo copy to oci-archive:")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, EntryType, Header};
    use tempfile::NamedTempFile;

    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_not_hashed() {
        for (giant, limit) in [("config", MAX_CONFIG_BYTES), ("layer", MAX_IMAGE_BYTES)] {
            let mut builder = Builder::new(NamedTempFile::new().unwrap());
            let mut add = |name: &str, bytes: &[u8]| {
                let mut header = Header::new_gnu();
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, bytes).unwrap();
            };
            add(
                "manifest.json",
                br#"[{"Config":"config","Layers":["layer"]}]"#,
            );
            if giant == "layer" {
                add("config", b"{}");
            }
            // Of the last file there is only a hole.
            let mut header = Header::new_gnu();
            header.set_path(giant).unwrap();
            header.set_size(limit + 1);
            header.set_cksum();
            builder.get_mut().write_all(header.as_bytes()).unwrap();
            let file = builder.into_inner().unwrap();
            file.as_file().set_len(limit + 8192).unwrap();
            let opened = DockerArchive::new(Tarball::open(file.path()).unwrap());
            assert_eq!(opened.err().unwrap().code(), "image_too_large", "{giant}");
        }
    }

    #[test]
    fn a_file_that_is_named_again_and_again_is_hashed_once() {
        let mut builder = Builder::new(Vec::new());
        let mut add = |kind: EntryType, name: &str, link: &str, bytes: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            header.set_link_name_literal(link).unwrap();
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        add(EntryType::Regular, "layer", "", &[7; 1000]);
        add(EntryType::Regular, "config", "", b"{}");
        let links: Vec<_> = (0..MAX_LAYERS)
            .map(|number| format!("link{number}"))
            .collect();
        for link in &links {
            add(EntryType::Symlink, link, "layer", b"");
        }
        let image = serde_json::json!({ "Config": "config", "Layers": links });
        let list = serde_json::json!([image, image]).to_string();
        add(EntryType::Regular, "manifest.json", "", list.as_bytes());
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        let archive = DockerArchive::new(Tarball::open(file.path()).unwrap()).unwrap();
        assert_eq!(archive.hashed.len(), 2);
    }
}
