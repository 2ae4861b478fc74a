//! Images made by the tests, and a node to import them into.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_content::{ContentStore, Limits};
use worldcompute_fault::{Fault, Result};
use worldcompute_image::{Blob, Choice, ImageStore, Listed, Request, Source, source};
use worldcompute_proof::Sha256;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A node's images, in a folder of their own.
pub struct Node {
    pub dir: TempDir,
    pub content: ContentStore,
    pub images: ImageStore,
}

impl Node {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentStore::open(dir.path().join("content"), limits).unwrap();
        let images = ImageStore::open(dir.path().join("images.json"), content.clone()).unwrap();
        Self {
            dir,
            content,
            images,
        }
    }

    pub fn import(&self, source: &mut dyn Source, request: &Request) -> Result<Listed> {
        self.images.import(source, request, &mut |_| Ok(()))
    }

    /// Imports what is at a path; for a refusal also that nothing of it stays.
    pub fn import_at(&self, path: &Path, request: &Request) -> Result<Listed> {
        let imported = source::at(path).and_then(|mut source| self.import(&mut *source, request));
        if imported.is_err() {
            self.assert_empty();
        }
        imported
    }

    /// A refusal where there are other images.
    pub fn import_at_with_images(&self, path: &Path, request: &Request) -> Fault {
        let before = (self.images.images(), self.content.used());
        let imported = source::at(path).and_then(|mut source| self.import(&mut *source, request));
        assert_eq!((self.images.images(), self.content.used()), before);
        imported.unwrap_err()
    }

    pub fn refuses(&self, path: &Path) -> Fault {
        self.import_at(path, &request()).unwrap_err()
    }

    /// Nothing is listed, nothing pinned, nothing lies there.
    pub fn assert_empty(&self) {
        assert_eq!(self.images.images(), []);
        assert_eq!(self.content.pins(), []);
        assert_eq!(self.content.used(), 0);
    }
}

/// Whatever machine the tests run on, their images are for this one.
pub fn request() -> Request {
    Request {
        choice: Choice {
            platform: "linux/amd64".parse().unwrap(),
            name: None,
        },
        ..Request::default()
    }
}

pub fn named(name: &str) -> Request {
    let mut request = request();
    request.choice.name = Some(name.to_owned());
    request
}

/// An archive of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        append(&mut builder, name, bytes);
    }
    builder.into_inner().unwrap()
}

pub fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, bytes).unwrap();
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Blobs by their digest, and the entries of an index.
#[derive(Clone, Default)]
pub struct Made {
    pub blobs: BTreeMap<Sha256, Vec<u8>>,
    pub entries: Vec<Value>,
}

impl Made {
    /// One image of three layers, each packed in another way.
    pub fn image() -> Self {
        let mut made = Self::default();
        made.add_image("amd64", &layers());
        made
    }

    pub fn keep(&mut self, bytes: Vec<u8>) -> Blob {
        let blob = Blob::of(&bytes);
        self.blobs.insert(blob.digest(), bytes);
        blob
    }

    pub fn document(&mut self, document: &Value) -> Blob {
        self.keep(document.to_string().into_bytes())
    }

    /// An image whose layers are given as they are carried and as they were.
    pub fn add_image(&mut self, architecture: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> Blob {
        let diff_ids = layers
            .iter()
            .map(|(_, unpacked)| Blob::of(unpacked).to_string());
        let config = config(architecture, diff_ids.collect());
        let config = self.document(&config);
        let layers: Vec<_> = layers
            .iter()
            .map(|(packed, _)| self.keep(packed.clone()))
            .collect();
        self.add_manifest(&manifest(&config, &layers), Some(architecture))
    }

    pub fn add_manifest(&mut self, manifest: &Value, architecture: Option<&str>) -> Blob {
        let blob = self.document(manifest);
        self.add_entry(MANIFEST, &blob, architecture);
        blob
    }

    pub fn add_entry(&mut self, media_type: &str, blob: &Blob, architecture: Option<&str>) {
        let mut entry = descriptor(media_type, blob);
        if let Some(architecture) = architecture {
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        }
        self.entries.push(entry);
    }

    pub fn index(&self) -> Value {
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries })
    }

    /// The files of a layout.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            (
                "index.json".to_owned(),
                self.index().to_string().into_bytes(),
            ),
        ];
        files.extend(
            self.blobs
                .iter()
                .map(|(digest, bytes)| (format!("blobs/sha256/{digest}"), bytes.clone())),
        );
        files
    }

    /// Writes a layout.
    pub fn layout(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in self.files() {
            write(dir.path(), &name, &bytes);
        }
        dir
    }

    /// An archive of the layout.
    pub fn archive(&self) -> Vec<u8> {
        let files = self.files();
        let files: Vec<_> = files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        tar(&files)
    }
}

/// Three layers, as they are carried and as they were.
pub fn layers() -> Vec<(Vec<u8>, Vec<u8>)> {
    let plain = tar(&[("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")]);
    let second = tar(&[("bin/sh", &[7; 5000])]);
    let third = tar(&[("srv/data", &[9; 70_000])]);
    vec![
        (plain.clone(), plain),
        (gzip(&second), second),
        (zstd(&third), third),
    ]
}

pub fn config(architecture: &str, diff_ids: Vec<String>) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": { "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo hello"], "Env": ["A=1"], "User": "root", "WorkingDir": "/srv" },
        "history": [{ "created_by": "a test" }],
    })
}

pub fn manifest(config: &Blob, layers: &[Blob]) -> Value {
    let layers: Vec<_> = layers.iter().map(|blob| descriptor(LAYER, blob)).collect();
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers })
}

pub fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.to_string(), "size": blob.size() })
}

/// Writes a file, and the folders that it is in.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}
