//! Images that are kept, and copies of them.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use worldcompute_fault::Result;
use worldcompute_rootfs::{Assembly, Cache, Devices, DiffId, Limits, Recipe, Size};

use crate::look::fsck;
use crate::support::{Lab, Tar};

fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, &[1; 1 << 20]).end()
}

fn assembled(dir: &Path, layer: &[u8]) -> Result<Assembly> {
    Assembly::new(Limits::default(), Devices::Refuse, dir)?.layer("one", None, layer)
}

fn recipe(layers: &[DiffId]) -> Recipe<'_> {
    Recipe {
        layers,
        devices: Devices::Refuse,
        size: Size::Fitting,
    }
}

fn images(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn an_image_is_made_once_and_copied_as_often_as_it_is_used() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("cache");
    let cache = Cache::open(&dir, 1 << 30).unwrap();
    let (bytes, made) = (layer("a"), Cell::new(0));
    let ids = [DiffId::of(&bytes)];
    let mut copies = Vec::new();
    for number in 0..3 {
        let image = cache.rootfs(&recipe(&ids), |scratch| {
            made.set(made.get() + 1);
            assembled(scratch, &bytes)
        });
        let copy = image
            .unwrap()
            .copy_to(&lab.dir.path().join(number.to_string()))
            .unwrap();
        fsck(copy.path());
        let metadata = fs::metadata(copy.path()).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.len()),
            (0o600, copy.size())
        );
        assert!(metadata.blocks() * 512 < 4 << 20);
        copies.push(fs::read(copy.path()).unwrap());
    }
    assert_eq!(made.get(), 1);
    let direct = assembled(&dir, &bytes)
        .unwrap()
        .build(&lab.path(), Size::Fitting)
        .unwrap();
    let direct = fs::read(direct.path()).unwrap();
    assert!(copies.iter().all(|copy| *copy == direct));
    let kept = fs::read_dir(&dir).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().mode() & 0o7777, 0o400);
}

#[test]
fn another_size_policy_or_order_is_another_image() {
    let ids = ["a", "b"].map(|name| DiffId::of(name.as_bytes()));
    let turned = [ids[1], ids[0]];
    let lab = Lab::new();
    let cache = Cache::open(&lab.dir.path().join("cache"), 1 << 30).unwrap();
    let layers = [Tar::new().end()];
    let one = [DiffId::of(&layers[0])];
    cache
        .rootfs(&recipe(&one), |scratch| assembled(scratch, &layers[0]))
        .unwrap();
    assert!(cache.get(&recipe(&one)).unwrap().is_some());
    for other in [
        Recipe {
            size: Size::Declared(64 << 20),
            ..recipe(&one)
        },
        Recipe {
            devices: Devices::Keep,
            ..recipe(&one)
        },
        recipe(&[]),
        recipe(&ids),
        recipe(&turned),
    ] {
        assert!(cache.get(&other).unwrap().is_none());
    }
}

#[test]
fn layers_that_are_not_the_recipes_are_refused_and_nothing_is_kept() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("cache");
    let cache = Cache::open(&dir, 1 << 30).unwrap();
    let ids = [DiffId::of(b"something else")];
    let refused = cache.rootfs(&recipe(&ids), |scratch| assembled(scratch, &layer("a")));
    assert_eq!(refused.unwrap_err().code(), "rootfs_recipe_mismatch");
    let refused = cache.rootfs(&recipe(&ids), |scratch| {
        assembled(scratch, b"no archive at all")
    });
    assert!(refused.is_err());
    assert_eq!(images(&dir), 0);
}

#[test]
fn what_was_not_used_for_longest_goes_and_stays_readable_for_who_has_it() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("cache");
    // Room for two images of a little more than a mebibyte.
    let cache = Cache::open(&dir, 3 << 20).unwrap();
    let layers = ["a", "b", "c"].map(layer);
    let ids = layers.each_ref().map(|layer| [DiffId::of(layer)]);
    let get = |at: usize| {
        cache
            .rootfs(&recipe(&ids[at]), |scratch| assembled(scratch, &layers[at]))
            .unwrap()
    };
    let (_first, second) = (get(0), get(1));
    assert_eq!(images(&dir), 2);
    get(0);
    get(2);
    assert_eq!(images(&dir), 2);
    assert!(cache.get(&recipe(&ids[0])).unwrap().is_some());
    assert!(cache.get(&recipe(&ids[1])).unwrap().is_none());
    let copy = second.copy_to(&lab.dir.path().join("copy")).unwrap();
    fsck(copy.path());
}

#[test]
fn an_image_larger_than_the_cache_is_used_and_not_kept() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("cache");
    let cache = Cache::open(&dir, 1000).unwrap();
    let bytes = layer("a");
    let ids = [DiffId::of(&bytes)];
    let image = cache
        .rootfs(&recipe(&ids), |scratch| assembled(scratch, &bytes))
        .unwrap();
    assert_eq!(images(&dir), 0);
    fsck(image.copy_to(&lab.path()).unwrap().path());
}

#[test]
fn a_copy_takes_no_name_that_is_taken() {
    let lab = Lab::new();
    let cache = Cache::open(&lab.dir.path().join("cache"), 1 << 30).unwrap();
    let bytes = layer("a");
    let ids = [DiffId::of(&bytes)];
    let image = cache
        .rootfs(&recipe(&ids), |scratch| assembled(scratch, &bytes))
        .unwrap();
    image.copy_to(&lab.path()).unwrap();
    assert_eq!(
        image.copy_to(&lab.path()).unwrap_err().code(),
        "already_exists"
    );
}

#[test]
fn what_a_dead_writer_left_goes_when_the_cache_is_opened_and_a_living_ones_stays() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("cache");
    Cache::open(&dir, 1 << 30).unwrap();
    fs::File::create(dir.join(".dead.ext4.tmp-0")).unwrap();
    let living = fs::File::create(dir.join(".living.ext4.tmp-0")).unwrap();
    living.lock().unwrap();
    Cache::open(&dir, 1 << 30).unwrap();
    assert!(!dir.join(".dead.ext4.tmp-0").exists());
    assert!(dir.join(".living.ext4.tmp-0").exists());
}
