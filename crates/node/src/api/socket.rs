//! The control socket's file: bound, connected and cleaned up, also where its path is longer than the kernel's address field.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};
use worldcompute_fault::{Category, Fault, Result};

/// The longest path that fits `sockaddr_un.sun_path` (unix(7): 108 bytes with the closing NUL).
const MAX_SOCKET_PATH: usize = 107;

/// Listens at `path`. The caller holds the home's lock, so a file that is already there is a dead daemon's.
pub fn bind(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(unusable(path, &error));
        }
        _ => {}
    }
    let address = Address::of(path)?;
    let listener = UnixListener::bind(&address.path).map_err(|error| unusable(path, &error))?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)
        .map_err(|error| unusable(path, &error.into()))?;
    Ok(listener)
}

/// Connects to the daemon behind `path`.
///
/// # Errors
/// `not_connected` when no daemon listens there.
pub async fn connect(path: &Path) -> Result<UnixStream> {
    let address = Address::of(path).map_err(|_| not_connected())?;
    UnixStream::connect(&address.path)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => not_connected(),
            _ => unusable(path, &error),
        })
}

/// The fault of a command that needs a daemon where none runs.
pub fn not_connected() -> Fault {
    Fault::new(
        Category::InvalidInput,
        "not_connected",
        "not connected to cluster. Run 'worldcompute donor join' first.",
    )
    .hint("start a daemon with 'worldcompute donor join', or name its home with --home")
}

/// A path short enough for the kernel, and the directory handle that keeps it valid.
struct Address {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl Address {
    fn of(path: &Path) -> Result<Self> {
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let (parent, name) = path
            .parent()
            .zip(path.file_name())
            .ok_or_else(not_connected)?;
        let directory = rustix::fs::open(
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| unusable(path, &error.into()))?;
        let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
        Ok(Self {
            path: Path::new(&short).join(name),
            _directory: Some(directory),
        })
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(
        Category::IoFailure,
        "control_socket_unusable",
        format!("control socket {}: {error}", path.display()),
    )
    .hint("check that the home is a directory of your own on a local file system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_longer_than_the_kernel_takes_still_connects() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("control.sock");
        let _listener = bind(&path).unwrap();
        connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn no_daemon_is_told_in_the_documented_words() {
        let dir = tempfile::tempdir().unwrap();
        let fault = connect(&dir.path().join("control.sock")).await.unwrap_err();
        assert_eq!(
            fault.message(),
            "not connected to cluster. Run 'worldcompute donor join' first."
        );
    }

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(bind(&path).unwrap());
        assert_eq!(connect(&path).await.unwrap_err().code(), "not_connected");
        let _listener = bind(&path).unwrap();
        connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _listener = bind(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
