//! Signed policy and skill packs from a registry, kept in a cache of this machine.
//!
//! ```text
//! source ─► https, allowlisted host ─► fetch, bounded retries ─► parse ─► publisher ─► pin ─► signature ─► cache and pin
//!                                          └► cached copy, only if asked for and pinned ─┘
//! ```
//!
//! Nothing is written before everything is verified. A cached copy passes the same checks as a fetched one.

mod cache;
mod fetch;
mod https;
mod manifest;
mod source;
mod verify;

pub use cache::{Cache, InstalledPack, Listing};
pub use fetch::{Failure, MAX_PACK_BYTES, Pause, Retry, SystemPause, Transport};
pub use https::HttpTransport;
pub use manifest::Manifest;
pub use source::{Source, SourceRules};
pub use verify::{Pin, Verification, report, verify};

use std::path::PathBuf;

use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey};

use crate::clock::Clock;

/// What to install, and what has to hold before it is.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the manifest is.
    pub source: Source,
    /// The publishers to accept, in lower case; any when empty.
    pub publishers: Vec<String>,
    /// The digest that the manifest must have.
    pub pin: Option<Pin>,
    /// The key that must have signed it.
    pub key: VerifyingKey,
    /// How often a failing fetch is repeated.
    pub retry: Retry,
    /// Whether a pinned copy of the cache may stand in for a source that cannot be reached.
    pub cached_fallback: bool,
}

/// A pack that was verified and is in the cache now.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its manifest.
    pub manifest: Manifest,
    /// The digest of the manifest.
    pub digest: Sha256,
    /// Where the manifest is kept.
    pub metadata_path: PathBuf,
    /// Where its digest is pinned.
    pub pin_path: PathBuf,
    /// The cached copy that was used because the source could not be reached.
    pub fallback: Option<PathBuf>,
}

/// What an installation reaches out with.
pub struct Means<'a> {
    /// The network.
    pub transport: &'a dyn Transport,
    /// The waits between two attempts.
    pub pause: &'a dyn Pause,
    /// The time, for the record of a fallback.
    pub clock: &'a dyn Clock,
}

/// Fetches, verifies and keeps a pack.
///
/// Errors, each before anything is written: those of the fetch (`network_transient` or `network_permanent`, whether or
/// not a cached copy was asked for and could not stand in), `verification_failed` with a reason of its own for what the manifest does not prove, and
/// `state_contention` when other installations hold the cache all the time.
pub fn install(request: &Request, cache: &Cache, means: &Means<'_>) -> Result<Installed> {
    let (bytes, fallback) = obtain(request, cache, means)?;
    let manifest = Manifest::parse(&bytes).map_err(Fault::from)?;
    let digest = verify::accept(&manifest, request)?;
    let kept = cache.keep(&manifest, digest)?;
    if let Some(fallback) = &fallback {
        cache.note_fallback(&request.source.shown(), digest, fallback, means.clock.now())?;
    }
    Ok(Installed {
        manifest,
        digest,
        metadata_path: kept.metadata_path,
        pin_path: kept.pin_path,
        fallback,
    })
}

fn obtain(
    request: &Request,
    cache: &Cache,
    means: &Means<'_>,
) -> Result<(Vec<u8>, Option<PathBuf>)> {
    let uri = match &request.source {
        Source::File(path) => return Ok((read_bounded(path, MAX_PACK_BYTES)?, None)),
        Source::Remote(uri) => uri,
    };
    match request.retry.fetch(uri, means.transport, means.pause) {
        Ok(bytes) => Ok((bytes, None)),
        Err(fault) => match (&request.pin, request.cached_fallback) {
            (_, false) => Err(fault),
            (None, true) => Err(unpinned(&fault)),
            (Some(pin), true) => cached(cache, pin, &fault),
        },
    }
}

fn cached(cache: &Cache, pin: &Pin, unreachable: &Fault) -> Result<(Vec<u8>, Option<PathBuf>)> {
    let Some((path, bytes)) = cache.find(pin)? else {
        let why = format!("the cache has no manifest of digest {}", pin.digest());
        return Err(and_no_fallback(unreachable, &why)
            .hint("install it once while the source can be reached"));
    };
    Ok((bytes, Some(path)))
}

/// A fallback that was asked for without saying to what. It is the network that failed: the same words succeed as soon
/// as the source can be reached, so they are not invalid.
fn unpinned(unreachable: &Fault) -> Fault {
    and_no_fallback(unreachable, "a cached fallback needs a pin")
        .hint("retry later, or add --pin sha256:<digest> so that the cached copy may stand in")
}

fn and_no_fallback(unreachable: &Fault, why: &str) -> Fault {
    let message = format!("{unreachable}; {why}");
    Fault::new(
        unreachable.category(),
        unreachable.code().to_owned(),
        message,
    )
}

#[cfg(test)]
mod tests;
