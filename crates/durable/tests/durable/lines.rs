//! Appending and reading back whole lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{pipe, put};
use worldcompute_durable::{Mode, NewDirs, append_line, last_line, output_dir, torn_tail};

#[test]
fn lines_follow_one_another_and_the_last_is_read_back_without_reading_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    assert_eq!(last_line(&path, 10).unwrap(), None);
    let lines = [
        "a".repeat(4095),
        "b".repeat(4096),
        "c".repeat(9000),
        String::new(),
        "e".to_owned(),
    ];
    for (count, line) in lines.iter().enumerate() {
        append_line(&path, line.as_bytes(), Mode::Private).unwrap();
        assert_eq!(last_line(&path, 9000).unwrap().unwrap(), line.as_bytes());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            lines[..=count]
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        );
    }
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_torn_last_line_is_cut_off_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    put(&path, format!("one\n{}", "x".repeat(20_000)));
    assert_eq!(last_line(&path, 10).unwrap().unwrap(), b"one");
    append_line(&path, b"two", Mode::Private).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    put(&path, "only a torn one");
    assert_eq!(last_line(&path, 10).unwrap(), None);
    append_line(&path, b"first", Mode::Private).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
}

#[test]
fn a_line_past_the_readers_limit_is_refused_and_one_at_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    append_line(&path, b"12345", Mode::Private).unwrap();
    assert_eq!(last_line(&path, 5).unwrap().unwrap(), b"12345");
    assert_eq!(last_line(&path, 4).unwrap_err().code(), "file_too_large");
}

#[test]
fn a_line_with_a_break_in_it_and_a_symbolic_link_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    assert_eq!(
        append_line(&path, b"a\nb", Mode::Private)
            .unwrap_err()
            .code(),
        "invalid_line"
    );
    assert!(!path.exists());
    put(&dir.path().join("elsewhere"), "");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(append_line(&path, b"a", Mode::Private).is_err());
    assert_eq!(fs::read(dir.path().join("elsewhere")).unwrap(), b"");
}

#[test]
fn a_line_longer_than_the_limit_is_refused_without_reading_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    for content in ["12345\n", "1\n12345\n"] {
        put(&path, content);
        let fault = last_line(&path, 4).unwrap_err();
        assert_eq!(fault.code(), "file_too_large", "{content:?}");
    }
    for content in ["1234\n", "12345\n1234\n", "1234\n123", "1234\n12345"] {
        put(&path, content);
        assert_eq!(
            last_line(&path, 4).unwrap().unwrap(),
            b"1234",
            "{content:?}"
        );
    }
    // Would take minutes to read.
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 42).unwrap();
    assert_eq!(last_line(&path, 4).unwrap_err().code(), "file_too_large");
    assert_eq!(torn_tail(&path, 4).unwrap_err().code(), "file_too_large");
    put(&path, "1\n234");
    assert_eq!(torn_tail(&path, 3).unwrap(), b"234".to_vec());
    assert_eq!(torn_tail(&path, 2).unwrap_err().code(), "file_too_large");
}

#[test]
fn a_pipe_or_directory_in_the_place_of_the_file_takes_no_line() {
    let dir = tempfile::tempdir().unwrap();
    for path in [pipe(dir.path()), dir.path().to_owned()] {
        assert!(append_line(&path, b"a", Mode::Private).is_err());
        assert!(last_line(&path, 10).is_err());
    }
}

#[test]
fn directories_that_came_to_nothing_go_again_unless_somebody_uses_them() {
    let dir = tempfile::tempdir().unwrap();
    let (above, deep) = (dir.path().join("a"), dir.path().join("a/b/c"));
    drop(NewDirs::make(&deep).unwrap());
    assert!(!above.exists());
    NewDirs::make(&deep).unwrap().keep();
    drop(NewDirs::make(&deep).unwrap());
    assert!(deep.is_dir(), "what was there before stays");
    let further = NewDirs::make(&deep.join("d/e")).unwrap();
    append_line(&deep.join("d/file"), b"1", Mode::Private).unwrap();
    drop(further);
    assert!(deep.join("d").is_dir() && !deep.join("d/e").exists());
}

#[test]
fn output_directories_are_made_for_owner_and_group_and_kept_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    output_dir(&deep).unwrap();
    for made in ["a", "a/b", "a/b/c"] {
        let mode = fs::metadata(dir.path().join(made))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o027, 0, "{made}: {mode:o}");
    }
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o755)).unwrap();
    output_dir(&deep).unwrap();
    assert_eq!(
        fs::metadata(&deep).unwrap().permissions().mode() & 0o777,
        0o755
    );
    put(&dir.path().join("file"), "");
    assert!(output_dir(&dir.path().join("file")).is_err());
    assert!(output_dir(&dir.path().join("file/below")).is_err());
    output_dir(std::path::Path::new("")).unwrap();
}
