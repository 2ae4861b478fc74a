//! Whole files: modes, limits, races, and names that others took.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;

use crate::common::{child_after, child_dir, names, pipe, skip};
use worldcompute_durable::{
    AtomicFile, Mode, Pending, create_new, private_dir, read_bounded, read_guarded, read_private,
    read_trusted, write_atomic,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777)
}

fn chmod(path: &Path, mode: u32) {
    assert!(fs::set_permissions(path, fs::Permissions::from_mode(mode)).is_ok());
}

#[test]
fn writing_replaces_content_and_mode_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_atomic(&path, b"first", Mode::Public).unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), mode(&path)),
        (b"first".to_vec(), 0o644)
    );
    write_atomic(&path, b"", Mode::Private).unwrap();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (Vec::new(), 0o600));
    assert_eq!(names(dir.path()), ["state"]);
}

#[test]
fn a_reader_keeps_the_file_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_atomic(&path, b"old", Mode::Private).unwrap();
    let mut reader = File::open(&path).unwrap();
    write_atomic(&path, b"new", Mode::Private).unwrap();
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "old");
}

#[test]
fn a_symbolic_link_is_replaced_and_what_it_names_is_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, path) = (dir.path().join("victim"), dir.path().join("state"));
    fs::File::create(&victim).unwrap();
    symlink(&victim, &path).unwrap();
    write_atomic(&path, b"ours", Mode::Private).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"");
    assert!(path.symlink_metadata().unwrap().is_file());
}

#[test]
fn a_socket_and_a_link_to_a_device_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, link) = (dir.path().join("socket"), dir.path().join("link"));
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    symlink("/dev/null", &link).unwrap();
    let before = names(dir.path());
    for path in [&socket, &link] {
        let refusals = [
            write_atomic(path, b"ours", Mode::Public).unwrap_err(),
            create_new(path, b"ours", Mode::Public).unwrap_err(),
            Pending::reserve(path).err().unwrap(),
            AtomicFile::create(path, Mode::Public).err().unwrap(),
        ];
        assert_eq!(
            refusals.map(|fault| fault.code().to_owned()),
            ["not_a_file"; 4]
        );
    }
    assert!(socket.symlink_metadata().unwrap().file_type().is_socket());
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(names(dir.path()), before);
}

#[test]
fn a_path_without_a_file_name_is_refused() {
    for path in ["/", "..", "a/..", ""] {
        assert_eq!(
            write_atomic(Path::new(path), b"", Mode::Private)
                .unwrap_err()
                .code(),
            "invalid_path",
            "{path:?}"
        );
    }
}

#[test]
fn a_missing_directory_and_a_directory_in_the_way_are_errors_that_name_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let missing = write_atomic(&dir.path().join("no/such"), b"", Mode::Private).unwrap_err();
    assert_eq!(missing.code(), "not_found");
    fs::create_dir(dir.path().join("taken")).unwrap();
    let taken = write_atomic(&dir.path().join("taken"), b"", Mode::Private).unwrap_err();
    assert!(taken.message().contains("taken"), "{taken}");
    assert_eq!(names(dir.path()), ["taken"]);
}

#[test]
fn of_many_creators_one_wins_and_its_content_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    let start = Barrier::new(16);
    let create = |id: u8| {
        start.wait();
        create_new(&path, &[id; 4096], Mode::Private)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|id| scope.spawn(move || (id, create(id))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let winners: Vec<_> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(id, _)| *id)
        .collect();
    let losers = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().err());
    assert!(
        losers
            .map(|fault| fault.code())
            .all(|code| code == "already_exists"),
        "{results:?}"
    );
    assert_eq!(
        winners.iter().map(|&id| vec![id; 4096]).collect::<Vec<_>>(),
        [fs::read(&path).unwrap()]
    );
    assert_eq!(names(dir.path()), ["identity"]);
}

#[test]
fn creating_never_replaces_not_even_a_dangling_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    symlink(dir.path().join("nowhere"), &path).unwrap();
    assert_eq!(
        create_new(&path, b"x", Mode::Private).unwrap_err().code(),
        "already_exists"
    );
    assert_eq!(names(dir.path()), ["key"]);
}

#[test]
fn concurrent_writers_leave_one_whole_content_and_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    std::thread::scope(|scope| {
        for id in 0..8_u8 {
            let path = &path;
            scope.spawn(move || {
                (0..50).for_each(|_| write_atomic(path, &[id; 10_000], Mode::Public).unwrap())
            });
        }
    });
    let content = fs::read(&path).unwrap();
    assert_eq!(content, vec![content[0]; 10_000]);
    assert_eq!(names(dir.path()), ["state"]);
}

/// The temporary names of `state`, each held open by a writer that is alive.
fn live_writers(dir: &Path, count: usize) -> Vec<File> {
    let writer = |slot| {
        let file = File::create_new(dir.join(format!(".state.tmp-{slot}"))).ok()?;
        file.lock().ok().map(|()| file)
    };
    (0..count).filter_map(writer).collect()
}

#[test]
fn one_writer_below_the_limit_is_served_and_the_one_past_it_is_told_to_retry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut writers = live_writers(dir.path(), 32);
    assert_eq!(writers.len(), 32);
    let crowded = write_atomic(&path, b"x", Mode::Private).unwrap_err();
    assert_eq!(
        (crowded.code(), crowded.retryable()),
        ("state_contention", true)
    );
    writers.pop();
    write_atomic(&path, b"x", Mode::Private).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn leftovers_of_dead_writers_vanish_with_the_next_write_and_those_of_live_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let alive = live_writers(dir.path(), 1);
    for slot in [1, 7, 31] {
        File::create_new(dir.path().join(format!(".state.tmp-{slot}"))).unwrap();
    }
    write_atomic(&path, b"x", Mode::Private).unwrap();
    assert_eq!(names(dir.path()), [".state.tmp-0", "state"]);
    drop(alive);
    write_atomic(&path, b"y", Mode::Private).unwrap();
    assert_eq!(names(dir.path()), ["state"]);
}

#[test]
fn temporary_names_that_others_took_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    File::create(&victim).unwrap();
    symlink(&victim, dir.path().join(".state.tmp-0")).unwrap();
    fs::create_dir(dir.path().join(".state.tmp-1")).unwrap();
    write_atomic(&dir.path().join("state"), b"ours", Mode::Private).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"");
    assert_eq!(
        names(dir.path()),
        [".state.tmp-0", ".state.tmp-1", "state", "victim"]
    );
}

#[test]
#[ignore = "entry of a child process"]
fn write_under_this_umask() {
    let Some(dir) = child_dir() else { return };
    write_atomic(&dir.join("private"), b"x", Mode::Private).unwrap();
    write_atomic(&dir.join("public"), b"x", Mode::Public).unwrap();
    create_new(&dir.join("created"), b"x", Mode::Private).unwrap();
    private_dir(&dir.join("made/deep")).unwrap();
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "022", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let setup = format!("umask {umask}");
        let output = child_after(&setup, "files::write_under_this_umask", dir.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let modes = ["private", "public", "created", "made", "made/deep"]
            .map(|name| mode(&dir.path().join(name)));
        assert_eq!(modes, [0o600, 0o644, 0o600, 0o700, 0o700], "umask {umask}");
    }
}

#[test]
fn reading_takes_the_limit_and_refuses_one_byte_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"12345", Mode::Private).unwrap();
    for read in [read_bounded, read_private] {
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, u64::MAX).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().code(), "file_too_large");
        assert_eq!(read(&path, 0).unwrap_err().code(), "file_too_large");
        assert_eq!(
            read(&dir.path().join("none"), 5).unwrap_err().code(),
            "not_found"
        );
    }
}

#[test]
fn a_file_without_an_honest_size_is_bounded_too() {
    assert_eq!(
        read_bounded(Path::new("/dev/zero"), 1000)
            .unwrap_err()
            .code(),
        "file_too_large"
    );
    assert!(
        !read_bounded(Path::new("/proc/self/stat"), 4096)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_secret_open_to_anybody_else_is_refused_with_the_command_that_closes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.key");
    write_atomic(&path, b"secret", Mode::Private).unwrap();
    for open in [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666] {
        chmod(&path, open);
        let fault = read_private(&path, 100).unwrap_err();
        assert_eq!(fault.code(), "insecure_permissions", "{open:o}");
        assert_eq!(fault.hint_text(), format!("chmod 600 {}", path.display()));
        assert!(!fault.human().contains("secret"));
    }
    for closed in [0o600, 0o400] {
        chmod(&path, closed);
        assert_eq!(read_private(&path, 100).unwrap(), b"secret");
    }
}

#[test]
fn a_secret_behind_a_link_or_in_a_pipe_or_directory_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (key, link) = (dir.path().join("key"), dir.path().join("link"));
    write_atomic(&key, b"secret", Mode::Private).unwrap();
    symlink(&key, &link).unwrap();
    let pipe = pipe(dir.path());
    for path in [link.as_path(), &pipe, dir.path()] {
        assert_eq!(
            read_private(path, 100).unwrap_err().code(),
            "insecure_permissions",
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_secret_of_another_user_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_atomic(&path, b"secret", Mode::Private).unwrap();
    if let Err(error) = std::os::unix::fs::chown(&path, Some(4242), None) {
        skip(&format!("only root gives files away ({error})"));
        return;
    }
    let fault = read_private(&path, 100).unwrap_err();
    assert_eq!(
        (fault.code(), fault.message().contains("4242")),
        ("insecure_permissions", true)
    );
}

#[test]
fn a_private_directory_is_made_with_its_parents_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    private_dir(&path).unwrap();
    private_dir(&path).unwrap();
    assert_eq!([mode(&dir.path().join("a")), mode(&path)], [0o700, 0o700]);
}

#[test]
fn a_directory_open_to_others_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for open in [0o750, 0o701, 0o777] {
        chmod(dir.path(), open);
        let fault = private_dir(dir.path()).unwrap_err();
        assert_eq!(
            (fault.code(), mode(dir.path())),
            ("insecure_permissions", open)
        );
        assert_eq!(
            fault.hint_text(),
            format!("chmod 700 {}", dir.path().display())
        );
    }
}

#[test]
fn what_is_no_directory_is_never_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (file, dangling) = (dir.path().join("file"), dir.path().join("dangling"));
    write_atomic(&file, b"", Mode::Private).unwrap();
    symlink(dir.path().join("nowhere"), &dangling).unwrap();
    for path in [
        file.clone(),
        file.join("below"),
        dangling.clone(),
        dangling.join("below"),
    ] {
        assert!(private_dir(&path).is_err(), "{}", path.display());
    }
}

#[test]
fn a_reserved_file_appears_whole_when_committed_and_not_at_all_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    drop(Pending::reserve(&path).unwrap());
    assert!(names(dir.path()).is_empty());
    let pending = Pending::reserve(&path).unwrap();
    assert_eq!(pending.path(), path);
    assert!(!path.exists());
    pending.commit(b"done", Mode::Private).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"done");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(dir.path()), ["record"]);
}

#[test]
fn a_place_that_cannot_be_written_shows_when_it_is_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Pending::reserve(&dir.path().join("none/record"))
        .err()
        .unwrap();
    assert_eq!(missing.code(), "not_found");
}

#[test]
fn a_file_that_everybody_may_write_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_atomic(&path, b"x", Mode::Private).unwrap();
    chmod(&path, 0o644);
    assert_eq!(read_trusted(&path, 1).unwrap(), b"x");
    chmod(&path, 0o646);
    let open = read_trusted(&path, 1).unwrap_err();
    assert_eq!(open.code(), "insecure_permissions");
    assert!(open.hint_text().starts_with("chmod o-w"));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(
        read_trusted(&link, 1).unwrap_err().code(),
        "insecure_permissions"
    );
    assert_eq!(
        read_trusted(dir.path(), 1).unwrap_err().code(),
        "insecure_permissions"
    );
}

#[test]
fn a_file_that_everybody_may_replace_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, mounted) = (dir.path().join("folder"), dir.path().join("mounted"));
    for folder in [&folder, &mounted] {
        std::fs::create_dir(folder).unwrap();
        chmod(folder, 0o755);
    }
    let (path, link) = (folder.join("file"), mounted.join("link"));
    write_atomic(&path, b"x", Mode::Private).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let codes = || {
        let direct = [
            read_trusted(&path, 1),
            read_guarded(&path, 1),
            read_private(&path, 1),
        ];
        let linked = read_guarded(&link, 1);
        let code = |read: worldcompute_fault::Result<Vec<u8>>| {
            read.err().map(|fault| fault.code().to_owned())
        };
        (direct.map(code), code(linked))
    };
    let refused = || Some("insecure_permissions".to_owned());
    let all = || [refused(), refused(), refused()];
    for mode in [0o755, 0o775, 0o1777] {
        chmod(&folder, mode);
        assert_eq!(codes(), ([None, None, None], None), "{mode:o}");
    }
    chmod(&folder, 0o777);
    assert_eq!(codes(), (all(), refused()), "the folder of the file");
    chmod(&folder, 0o755);
    chmod(&mounted, 0o777);
    assert_eq!(
        codes(),
        ([None, None, None], refused()),
        "the folder of the link"
    );
}

#[test]
fn a_pipe_without_a_writer_is_at_its_end_and_one_with_a_writer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = pipe(dir.path());
    assert_eq!(read_bounded(&pipe, 100).unwrap(), b"");
    // Open for both, so that neither end waits for the other.
    let mut both = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || read_bounded(&pipe, 3).unwrap_err())
    };
    std::io::Write::write_all(&mut both, b"said later").unwrap();
    assert_eq!(reader.join().unwrap().code(), "file_too_large");
}

#[test]
fn a_directory_or_a_socket_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [dir.path(), &socket] {
        assert_eq!(read_bounded(path, 100).unwrap_err().code(), "io_failure");
    }
}

#[test]
fn no_place_is_reserved_where_a_directory_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let fault = Pending::reserve(&folder).map(drop).unwrap_err();
    assert_eq!(fault.code(), "io_failure");
    assert_eq!(names(dir.path()), ["folder"]);
}
