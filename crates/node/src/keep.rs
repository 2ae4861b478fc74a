//! Keeping bytes in the content store without holding up the runtime: a disk takes its time. Several are kept at once,
//! because a disk that syncs one file can sync others with it.

use std::sync::Arc;

use futures::future::try_join_all;
use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Cid;

/// Bytes that are on disk under their name, and stay for as long as they are held.
pub struct Kept {
    pub cid: Cid,
    pub bytes: Vec<u8>,
    pub held: Held,
}

/// Keeps bytes, and gives them back with their name.
pub async fn keep(content: &Arc<ContentStore>, bytes: Vec<u8>) -> Result<Kept> {
    let content = content.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let cid = Cid::raw(&bytes);
        let held = content.hold(&cid);
        content.put_as(&cid, &bytes)?;
        Ok(Kept { cid, bytes, held })
    });
    kept.await
        .map_err(|error| Fault::wc(WcCode::Internal, error.to_string()))?
}

/// Keeps all of them, in the given order.
pub async fn keep_all(content: &Arc<ContentStore>, blobs: Vec<Vec<u8>>) -> Result<Vec<Kept>> {
    try_join_all(blobs.into_iter().map(|bytes| keep(content, bytes))).await
}
