//! What layers make together.

use std::collections::BTreeMap;

use crate::support::{Head, Lab, Mounted, Seen, SeenBody, Tar, gzip, zstd};

type Tree = BTreeMap<Vec<u8>, Seen>;

/// The tree as the kernel sees it; `None` where nothing may be mounted.
fn tree(lab: &Lab, layers: &[Vec<u8>]) -> Option<Tree> {
    let image = lab.build(layers);
    Some(Mounted::new(image.path())?.seen())
}

/// Paths with what they hold: `/` for directories, `-> target`, else the content.
fn listed(tree: &Tree) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = tree.iter().skip(1).map(|(path, seen)| match &seen.body {
        SeenBody::Directory => format!("{}/", text(path)),
        SeenBody::File(content) => format!("{} = {}", text(path), text(content)),
        SeenBody::Symlink(target) => format!("{} -> {}", text(path), text(target)),
        SeenBody::Large(size) => format!("{} of {size}", text(path)),
        SeenBody::Other => format!("{} ?", text(path)),
    });
    shown.collect()
}

fn check(layers: &[Vec<u8>], expected: &[&str]) {
    if let Some(tree) = tree(&Lab::new(), layers) {
        assert_eq!(listed(&tree), expected);
    }
}

#[test]
fn layers_of_every_packing_lie_over_each_other() {
    let plain = Tar::new()
        .dir("etc/")
        .file("etc/a", b"1")
        .file("etc/b", b"1")
        .end();
    let gz = gzip(&Tar::new().file("etc/b", b"2").file("usr/c", b"2").end());
    let zst = zstd(
        &Tar::new()
            .file("./usr/c", b"3")
            .symlink("bin", "usr/bin")
            .end(),
    );
    check(
        &[plain, gz, zst],
        &[
            "bin -> usr/bin",
            "etc/",
            "etc/a = 1",
            "etc/b = 2",
            "usr/",
            "usr/c = 3",
        ],
    );
}
