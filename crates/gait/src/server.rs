//! Local HTTP services: bounded in connections, time and size, closed to browsers, and with a token where others could
//! reach them.

mod guard;
mod patient;
mod turns;

pub use guard::{Guard, Token};
pub use turns::Turns;

use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use worldcompute_durable::{LockOptions, OwnedLock, private_dir};
use worldcompute_fault::{Category, Fault, Result};

use patient::Patient;

/// What a client may take of a service.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once; others wait.
    pub connections: usize,
    /// The largest head of a request, in bytes; at least 8,192.
    pub head_bytes: usize,
    /// The most lines in a head.
    pub head_lines: usize,
    /// How long a client may take over a head, and stay silent between two requests.
    pub head_time: Duration,
    /// The largest body of a request, in bytes.
    pub body_bytes: usize,
    /// How long a client may take over a body.
    pub body_time: Duration,
    /// How long a client may leave an answer unread.
    pub answer_time: Duration,
}

impl Default for Limits {
    /// 128 connections, heads of 16 KiB and 64 lines, bodies of 1 MiB, 30 s for each step.
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self {
            connections: 128,
            head_bytes: 16 << 10,
            head_lines: 64,
            head_time: patience,
            body_bytes: 1 << 20,
            body_time: patience,
            answer_time: patience,
        }
    }
}

/// Where a service listens.
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A socket in the file system that only its owner can open.
    Unix(UnixSocket),
}

/// A socket file, removed on drop.
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    _lock: OwnedLock,
}

impl Listener {
    /// Listens on an address; `listen_failed` when it is taken.
    pub async fn tcp(address: &str) -> Result<Self> {
        let address = crate::listen::parse(address)?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| failed(&address.to_string(), &error))?;
        Ok(Self::Tcp(listener))
    }

    /// Listens on a socket at `path`, mode 0600, in a directory that only its owner enters.
    ///
    /// A socket that a dead service left behind is replaced; `state_contention` while one is alive, `listen_failed`
    /// when something else is in the way.
    pub fn unix(path: &Path) -> Result<Self> {
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        private_dir(dir)?;
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let once = LockOptions {
            wait: Duration::ZERO,
            ..LockOptions::default()
        };
        let lock = OwnedLock::acquire(Path::new(&lock), once)?;
        match bind(path) {
            Ok(listener) => Ok(Self::Unix(UnixSocket {
                listener,
                path: path.to_owned(),
                _lock: lock,
            })),
            Err(fault) => {
                lock.undo();
                Err(fault)
            }
        }
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| String::new(), |address| address.to_string()),
            Self::Unix(socket) => socket.path.display().to_string(),
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // The lock is still held, so this is no other service's socket. One left behind is replaced by the next.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket, which nobody else does meanwhile.
fn bind(path: &Path) -> Result<UnixListener> {
    remove_dead(path)?;
    let cannot = |error| failed(&path.display().to_string(), &error);
    let listener = UnixListener::bind(path).map_err(cannot)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).map_err(cannot)?;
    Ok(listener)
}

fn remove_dead(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(&path.display().to_string(), &error)),
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(|error| failed(&path.display().to_string(), &error))
        }
        Ok(_) => Err(failed(
            &path.display().to_string(),
            &io::ErrorKind::AlreadyExists.into(),
        )),
    }
}

fn failed(at: &str, error: &io::Error) -> Fault {
    Fault::new(
        Category::IoFailure,
        "listen_failed",
        format!("cannot listen on {at}"),
    )
    .caused_by(error)
    .hint("choose another address, or end the program that has this one")
}

/// Serves `router` behind `guard` until `stop` is done, and then finishes what was begun.
pub async fn serve(
    listener: Listener,
    router: Router,
    guard: Guard,
    stop: impl Future<Output = ()>,
) {
    let limits = guard.limits;
    let router = guard.around(router);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (closing, closed) = tokio::sync::watch::channel(());
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let Ok(stream) = accepted else {
            // One client that went away, or no file descriptor left: neither ends the service.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (router, mut closed) = (router.clone(), closed.clone());
        tokio::spawn(async move {
            stream.serve(router, limits, &mut closed).await;
            drop(slot);
        });
    }
    drop(closing);
    // Every connection holds a slot until it has ended.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.head_time, slots.acquire_many(all)).await;
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(socket) => socket
                .listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Stream {
    async fn serve(
        self,
        router: Router,
        limits: Limits,
        closed: &mut tokio::sync::watch::Receiver<()>,
    ) {
        match self {
            Self::Tcp(stream) => {
                // An answer is one short write: waiting for more of it only delays it.
                let _ = stream.set_nodelay(true);
                connection(stream, router, limits, closed).await;
            }
            Self::Unix(stream) => connection(stream, router, limits, closed).await,
        }
    }
}

async fn connection<S>(
    stream: S,
    router: Router,
    limits: Limits,
    closed: &mut tokio::sync::watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Patient::new(stream, limits.answer_time);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.head_lines)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // Whatever a client does wrong on its connection is its own affair.
        _ = serving.as_mut() => return,
        _ = closed.changed() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// The threads of a service.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(Limits::default().connections)
        .enable_all()
        .build()
        .map_err(|error| {
            Fault::new(Category::InternalFailure, "no_runtime", "start the service")
                .caused_by(error)
        })
}

/// Done when the process is asked to end.
pub async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        // Without signals the system ends the process the hard way, which loses nothing.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(test)]
mod tests;
