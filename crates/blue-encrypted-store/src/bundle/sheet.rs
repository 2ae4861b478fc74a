//! A bundle while it is written: by a thread of its own, so that the disk holds nobody up.

use std::io::Write;
use std::path::Path;

use aws_lc_rs::hmac;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use worldcompute_durable::{AtomicFile, Mode};
use worldcompute_fault::{Category, Fault, Result};

use crate::crypto::Digest;
use crate::task::broke_off;

/// Pieces that wait for the disk.
const WAITING: usize = 2;

/// A file that appears with [`Sheet::commit`]; dropped before that it leaves nothing.
pub(super) struct Sheet {
    pieces: mpsc::Sender<Vec<u8>>,
    named: oneshot::Sender<()>,
    writer: JoinHandle<Result<()>>,
    mac: hmac::Context,
    bytes: u64,
}

impl Sheet {
    pub(super) fn begin(path: &Path, key: &hmac::Key) -> Self {
        let (pieces, mut arriving) = mpsc::channel::<Vec<u8>>(WAITING);
        let (named, name) = oneshot::channel();
        let path = path.to_owned();
        let writer = tokio::task::spawn_blocking(move || {
            let mut file = AtomicFile::create(&path, Mode::Private)?;
            while let Some(piece) = arriving.blocking_recv() {
                let written = file.write_all(&piece);
                written
                    .map_err(|error| Fault::io(format_args!("write {}", path.display()), &error))?;
            }
            match name.blocking_recv() {
                Ok(()) => file.commit(),
                Err(_) => Ok(()),
            }
        });
        Self {
            pieces,
            named,
            writer,
            mac: hmac::Context::with_key(key),
            bytes: 0,
        }
    }

    /// Appends what the MAC covers.
    pub(super) async fn put(self, piece: Vec<u8>) -> Result<Self> {
        let mut sheet = self;
        sheet.mac.update(&piece);
        sheet.append(piece).await
    }

    /// Appends the MAC; says which it is, and how many bytes there are now.
    pub(super) async fn seal(mut self) -> Result<(Sealed, Digest)> {
        let mut mac = Digest::default();
        mac.copy_from_slice(self.mac.clone().sign().as_ref());
        self = self.append(mac.to_vec()).await?;
        Ok((Sealed(self), mac))
    }

    async fn append(mut self, piece: Vec<u8>) -> Result<Self> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        match self.pieces.send(piece).await {
            Ok(()) => Ok(self),
            // It ends before it is told to only when the disk fails.
            Err(_) => Err(ended(self.writer).await),
        }
    }
}

/// A bundle that is complete but for its name.
pub(super) struct Sealed(Sheet);

impl Sealed {
    pub(super) const fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Gives it its name, on stable storage.
    pub(super) async fn commit(self) -> Result<()> {
        let Sheet {
            pieces,
            named,
            writer,
            ..
        } = self.0;
        // Who does not hear of it has failed before.
        named.send(()).ok();
        drop(pieces);
        writer.await.map_err(|error| broke_off(&error))?
    }
}

async fn ended(writer: JoinHandle<Result<()>>) -> Fault {
    match writer.await {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) => Fault::new(
            Category::InternalFailure,
            "task_failed",
            "the writer ended too early",
        ),
        Err(error) => broke_off(&error),
    }
}
