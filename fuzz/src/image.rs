//! Images of strangers: documents, configurations, archives and accounts. Whatever an archive is, it comes in whole and can
//! be verified again, or nothing of it stays.

use std::cell::OnceCell;

use tempfile::TempDir;
use worldcompute_content::{Collect, ContentStore, Limits};
use worldcompute_image::{
    Choice, Document, Identity, ImageConfig, ImageStore, MAX_GROUPS, MAX_IMAGE_BYTES, MAX_LAYERS,
    MAX_MANIFEST_BYTES, Overrides, Reference, Request, User, source,
};

use crate::files::file;

/// What one archive may take: a fuzzer makes bombs.
const MAX_BYTES: u64 = 1 << 20;

thread_local! {
    static NODE: OnceCell<Node> = const { OnceCell::new() };
}

struct Node {
    _dir: TempDir,
    content: ContentStore,
    images: ImageStore,
}

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    document(bytes);
    config(bytes);
    accounts(bytes);
    if let Some(reference) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<Reference>().ok())
    {
        assert_eq!(
            reference
                .to_string()
                .parse::<Reference>()
                .expect("it was read before"),
            reference
        );
    }
    NODE.with(|node| archive(node.get_or_init(Node::new), bytes));
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("room for a folder");
        let limits = Limits {
            max_object: MAX_BYTES,
            max_total: MAX_BYTES,
        };
        let content =
            ContentStore::open(dir.path().join("content"), limits).expect("an empty store");
        let images = ImageStore::open(dir.path().join("images.json"), content.clone())
            .expect("an empty list");
        Self {
            _dir: dir,
            content,
            images,
        }
    }
}

fn document(bytes: &[u8]) {
    if let Ok(Document::Manifest(manifest)) = Document::parse(bytes, None) {
        assert!(bytes.len() as u64 <= MAX_MANIFEST_BYTES);
        assert!(manifest.layers.len() <= MAX_LAYERS && manifest.layer_bytes() <= MAX_IMAGE_BYTES);
    }
}

fn config(bytes: &[u8]) {
    let Ok(config) = ImageConfig::parse(bytes) else {
        return;
    };
    assert!(config.cwd.starts_with('/'));
    if let Ok(process) = config.process(&Overrides::default()) {
        assert!(!process.argv[0].is_empty());
        let words = process
            .argv
            .iter()
            .chain(process.env.iter().map(|(_, value)| value));
        assert!(words.chain([&process.cwd]).all(|word| !word.contains('\0')));
    }
}

fn accounts(bytes: &[u8]) {
    for user in ["root", "0", "app:wheel", "1000"] {
        let user = User::parse(user).expect("a plain user");
        let Ok(Identity {
            uid,
            gid,
            groups,
            home,
        }) = user.resolve(bytes, bytes)
        else {
            continue;
        };
        assert!(uid < u32::MAX && gid < u32::MAX && home.starts_with('/'));
        assert!(groups.len() <= MAX_GROUPS && groups.is_sorted());
    }
}

fn archive(node: &Node, bytes: &[u8]) {
    let request = Request {
        choice: Choice {
            platform: "linux/amd64".parse().expect("a plain platform"),
            name: None,
        },
        name: None,
        max_unpacked: MAX_BYTES,
    };
    let opened = source::at(&file("image.tar", bytes));
    let imported =
        opened.and_then(|mut source| node.images.import(&mut *source, &request, &mut |_| Ok(())));
    if let Ok(listed) = imported {
        let cid = listed.cid.to_string();
        node.images.inspect(&cid).expect("what came in is whole");
        node.images.remove(&cid).expect("what is listed can go");
    }
    assert!(node.images.images().is_empty() && node.content.pins().is_empty());
    node.content
        .collect(Collect::All)
        .expect("a disk that works");
    assert_eq!(node.content.used(), 0);
}
