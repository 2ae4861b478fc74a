//! An object from one peer, in chunks, through lost connections, checked against its name.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, join, stream};
use tokio::time::Instant;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, Hasher, PeerId};

use crate::mesh::Mesh;
use crate::wire::{ContentReply, ContentRequest, MAX_CHUNK};

/// Chunks under way at the same time: enough to fill a long path, few enough to bound memory.
const IN_FLIGHT: usize = 4;
/// Room that is made for an object before its bytes come.
const MAX_ROOM: usize = 16 * MAX_CHUNK;
/// Pauses before a chunk is asked for again; the last one stays.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// For how long a chunk is asked for again once that failed. A peer whose relay is lost has another within this time, and
/// what was fetched before is kept until then.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn fetch(mesh: &Mesh, peer: PeerId, cid: &Cid, max_bytes: u64) -> Result<Vec<u8>> {
    let first = chunk(mesh, peer, cid, 0, None).await?;
    let total = first.total;
    if total > max_bytes {
        return Err(too_large(cid, total, max_bytes));
    }
    let mut object = Object::new(total);
    let mut rest = stream::iter((MAX_CHUNK as u64..total).step_by(MAX_CHUNK))
        .map(|offset| chunk(mesh, peer, cid, offset, Some(total)))
        .buffered(IN_FLIGHT);
    let mut arrived = Some(first.bytes);
    while let Some(chunk) = arrived {
        // What comes next is asked for before this is hashed.
        let (next, ()) = join!(rest.try_next(), async { object.add(&chunk) });
        arrived = next?.map(|next| next.bytes);
    }
    object.checked(cid)
}

/// What came so far. It is hashed while the rest is on its way.
struct Object {
    bytes: Vec<u8>,
    hasher: Hasher,
}

impl Object {
    /// Room is made for what a peer says there is, but not for more than a few chunks on its word alone.
    fn new(total: u64) -> Self {
        let room = usize::try_from(total).map_or(MAX_ROOM, |total| total.min(MAX_ROOM));
        Self {
            bytes: Vec::with_capacity(room),
            hasher: Hasher::new(),
        }
    }

    fn add(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        self.bytes.extend_from_slice(chunk);
    }

    fn checked(self, cid: &Cid) -> Result<Vec<u8>> {
        match self.hasher.finish() == cid.digest() {
            true => Ok(self.bytes),
            false => Err(mismatch(cid, "its bytes have another digest")),
        }
    }
}

/// One chunk, asked for again while the network is at fault.
async fn chunk(
    mesh: &Mesh,
    peer: PeerId,
    cid: &Cid,
    offset: u64,
    total: Option<u64>,
) -> Result<ContentReply> {
    let mut given_up = None;
    let mut pauses = PAUSES.iter().chain(PAUSES.last().into_iter().cycle());
    loop {
        let request = ContentRequest {
            cid: *cid,
            offset,
            len: MAX_CHUNK as u32,
        };
        let fault = match mesh.content(peer, request).await {
            Ok(reply) => return verified(reply, cid, offset, total),
            Err(fault) => fault,
        };
        let given_up = *given_up.get_or_insert_with(|| Instant::now() + PATIENCE);
        match pauses.next() {
            Some(pause) if fault.retryable() && Instant::now() + *pause < given_up => {
                tokio::time::sleep(*pause).await;
            }
            _ => return Err(fault),
        }
    }
}

/// A chunk of the length it must have, of an object that did not change its size on the way.
fn verified(
    reply: ContentReply,
    cid: &Cid,
    offset: u64,
    total: Option<u64>,
) -> Result<ContentReply> {
    if total.is_some_and(|total| total != reply.total) {
        return Err(mismatch(cid, "its size changed under way"));
    }
    let expected = reply.total.saturating_sub(offset).min(MAX_CHUNK as u64);
    if reply.bytes.len() as u64 != expected {
        return Err(mismatch(cid, "a chunk has the wrong length"));
    }
    Ok(reply)
}

fn mismatch(cid: &Cid, why: &str) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        "content_mismatch",
        format!("the peer does not hold {cid}: {why}"),
    )
    .hint("fetch it from another peer")
}

fn too_large(cid: &Cid, total: u64, max_bytes: u64) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "content_too_large",
        format!("{cid} has {total} bytes, more than the {max_bytes} that fit here"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(total: u64, len: usize) -> ContentReply {
        ContentReply {
            total,
            bytes: vec![0; len],
        }
    }

    #[test]
    fn a_chunk_has_the_length_that_its_place_demands() {
        let cid = Cid::raw(b"x");
        let chunk = MAX_CHUNK as u64;
        assert!(verified(reply(10, 10), &cid, 0, None).is_ok());
        assert!(verified(reply(0, 0), &cid, 0, None).is_ok());
        assert!(verified(reply(chunk + 1, MAX_CHUNK), &cid, 0, None).is_ok());
        assert!(verified(reply(chunk + 1, 1), &cid, chunk, Some(chunk + 1)).is_ok());
        for (wrong, offset) in [
            (reply(10, 9), 0),
            (reply(10, 11), 0),
            (reply(10, 0), 0),
            (reply(chunk + 1, MAX_CHUNK + 1), 0),
            (reply(chunk + 1, 2), chunk),
        ] {
            let fault = verified(wrong, &cid, offset, None).unwrap_err();
            assert_eq!(fault.code(), "content_mismatch");
        }
    }

    #[test]
    fn an_object_that_changes_its_size_is_refused() {
        let fault = verified(reply(10, 10), &Cid::raw(b"x"), 0, Some(11)).unwrap_err();
        assert_eq!(fault.category(), Category::VerificationFailed);
    }
}
