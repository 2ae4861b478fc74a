//! Where packs are kept, and what is found out about them there.

use super::*;

#[test]
fn a_file_is_installed_in_the_layout_of_the_cache() {
    let bench = Bench::new();
    let pack = signed(|_| {});
    let file = bench.dir.path().join("p.json");
    keep(&file, &pack);
    let installed = bench
        .install(&request(Source::File(file)), &Scripted::new([]))
        .unwrap();
    let digest = digest(&pack);
    let root = bench.cache().root().to_owned();
    assert_eq!(
        installed.metadata_path,
        root.join(format!("base-low/1.0.0/{digest}/registry_pack.json"))
    );
    assert_eq!(installed.pin_path, root.join("pins/base-low.pin"));
    assert_eq!(
        std::fs::read_to_string(&installed.pin_path).unwrap(),
        format!("sha256:{digest}\n")
    );
    let missing = request(Source::File(bench.dir.path().join("none")));
    let fault = bench.install(&missing, &Scripted::new([])).unwrap_err();
    assert_eq!(
        (fault.code(), fault.category()),
        ("not_found", Category::IoFailure)
    );
}

#[test]
fn many_installations_at_once_leave_a_consistent_cache() {
    const WRITERS: usize = 16;
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let cache = bench.cache();
            scope.spawn(move || {
                let pack =
                    signed(|pack| pack["pack_version"] = format!("1.0.{}", writer % 4).into());
                let means = Means {
                    transport: &Scripted::new([Ok(pack)]),
                    pause: &SystemPause,
                    clock: &SystemClock,
                };
                install(&request(remote()), &cache, &means).unwrap();
            });
        }
    });
    let listing = bench.cache().list().unwrap();
    assert_eq!(listing.warnings, [""; 0]);
    assert_eq!(listing.packs.len(), 4);
    assert_eq!(
        listing
            .packs
            .iter()
            .filter(|pack| pack.pin_verified)
            .count(),
        1
    );
}

#[test]
fn a_listing_says_what_is_no_pack() {
    let bench = Bench::new();
    bench
        .install(&request(remote()), &Scripted::new([Ok(signed(|_| {}))]))
        .unwrap();
    let stray = bench.cache().root().join("stray/1/00/registry_pack.json");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    keep(&stray, b"{}");
    let unfinished = bench.cache().root().join("base-low/1.0.1/00");
    std::fs::create_dir_all(unfinished).unwrap();
    let listing = bench.cache().list().unwrap();
    assert_eq!((listing.packs.len(), listing.warnings.len()), (1, 1));
    let empty = Cache::at(bench.dir.path().join("nowhere")).list().unwrap();
    assert!(empty.packs.is_empty() && empty.warnings.is_empty());
}

#[test]
fn verification_finds_a_moved_pin_another_key_and_a_stranger() {
    let bench = Bench::new();
    let installed = bench
        .install(&request(remote()), &Scripted::new([Ok(signed(|_| {}))]))
        .unwrap();
    let path = &installed.metadata_path;
    let key = key().verifying_key();
    let sound = verify(path, None, &key, &["ACME".to_owned()]).unwrap();
    assert!(sound.holds() && sound.pin_present && sound.pin_verified);
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    let unsigned = verify(path, None, &other, &[]).unwrap();
    assert_eq!(unsigned.failure_reasons(), ["signature_not_verified"]);
    let stranger = verify(path, None, &key, &["others".to_owned()]).unwrap();
    assert_eq!(stranger.failure_reasons(), ["publisher_not_allowed"]);
    for pin in [
        "sha256:00\n".to_owned(),
        "00".repeat(32),
        String::new(),
        "\u{0}".to_owned(),
    ] {
        keep(&installed.pin_path, pin.as_bytes());
        let moved = verify(path, None, &key, &[]).unwrap();
        assert_eq!(moved.failure_reasons(), ["pin_mismatch"], "{pin:?}");
    }
    let out = bench.dir.path().join("deep/report.json");
    report(&out, &stranger).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(
        (&written["status"], &written["created_at"]),
        (&"fail".into(), &"1980-01-01T00:00:00Z".into())
    );
}
