//! The relays that this node reached, kept for its next start: a relay that was built in or configured may be gone by then.
//!
//! What is read is dialled before it is believed, so a file that is damaged, or lies, costs a few dials.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use worldcompute_durable::{Mode, read_private, write_atomic};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_mesh::{KnownRelay, Mesh, MeshEvent, Multiaddr};
use worldcompute_proof::PeerId;

/// The largest file that is read, in bytes: 32 relays with 8 addresses of the longest kind each.
const MAX_BYTES: u64 = 256 << 10;
/// Relays that are taken from it.
const MAX_RELAYS: usize = 32;
/// Where nothing but the time of the last meeting has changed, the file is written again after this time.
const REFRESH: Duration = Duration::from_secs(3600);

/// One relay in the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    reached: Timestamp,
}

/// The relays in the file at `path`; none where there is no file. One that cannot be read is told, and is replaced when
/// relays are reached.
pub fn read(path: &Path) -> Vec<KnownRelay> {
    if path.symlink_metadata().is_err() {
        return Vec::new();
    }
    let read = read_private(path, MAX_BYTES).and_then(|bytes| parse(&bytes));
    read.unwrap_or_else(|fault| {
        let (code, reason) = (fault.code(), fault.message());
        tracing::warn!(path = %path.display(), code, reason, "the relays that were known are forgotten");
        Vec::new()
    })
}

/// Keeps in the file what the mesh knows, until the node ends.
pub async fn keep(mesh: Mesh, path: PathBuf, stop: CancellationToken) {
    let mut events = mesh.subscribe();
    let mut kept: Option<(Places, Instant)> = None;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(MeshEvent::Relays) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        }
        let Ok(known) = mesh.known_relays().await else {
            return;
        };
        let places = places(&known);
        let is_kept =
            |(there, since): &(Places, Instant)| *there == places && since.elapsed() < REFRESH;
        if known.is_empty() || kept.as_ref().is_some_and(is_kept) {
            continue;
        }
        kept = Some((places, Instant::now()));
        write(path.clone(), known).await;
    }
}

/// Who is where, whenever that was.
type Places = BTreeMap<PeerId, Vec<Multiaddr>>;

fn places(known: &[KnownRelay]) -> Places {
    let place = |relay: &KnownRelay| (relay.peer, relay.addresses.clone());
    known.iter().map(place).collect()
}

async fn write(path: PathBuf, known: Vec<KnownRelay>) {
    let written = tokio::task::spawn_blocking(move || {
        write_atomic(&path, format(&known)?.as_bytes(), Mode::Private)
    });
    let outcome = written.await.unwrap_or_else(|error| {
        Err(Fault::new(
            Category::InternalFailure,
            "task_broke_off",
            error.to_string(),
        ))
    });
    if let Err(fault) = outcome {
        let (code, reason) = (fault.code(), fault.message());
        tracing::warn!(code, reason, "the relays that are known could not be kept");
    }
}

fn format(known: &[KnownRelay]) -> Result<String> {
    let record = |relay: &KnownRelay| {
        Some(Record {
            peer: relay.peer,
            addresses: relay.addresses.clone(),
            reached: Timestamp::try_from(relay.reached).ok()?,
        })
    };
    let records: Vec<Record> = known.iter().filter_map(record).collect();
    serde_json::to_string_pretty(&records)
        .map(|text| text + "\n")
        .map_err(|error| damaged(&error))
}

fn parse(bytes: &[u8]) -> Result<Vec<KnownRelay>> {
    let records: Vec<Record> = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    let known = records
        .into_iter()
        .take(MAX_RELAYS)
        .map(|record| KnownRelay {
            peer: record.peer,
            addresses: record.addresses,
            reached: SystemTime::from(record.reached),
        });
    Ok(known.collect())
}

fn damaged(error: &serde_json::Error) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "relays_unreadable",
        format!("not a list of relays: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use worldcompute_mesh::MeshConfig;
    use worldcompute_proof::SigningKey;

    use super::*;

    fn relay(seed: u8) -> KnownRelay {
        let at = format!("/ip4/20.0.{seed}.1/tcp/19999");
        KnownRelay {
            peer: SigningKey::from_seed([seed; 32]).peer_id(),
            addresses: vec![at.parse().unwrap()],
            reached: SystemTime::from(Timestamp::from_second(1_800_000_000).unwrap()),
        }
    }

    fn kept(text: &[u8]) -> Vec<KnownRelay> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relays.json");
        write_atomic(&path, text, Mode::Private).unwrap();
        read(&path)
    }

    #[test]
    fn what_is_kept_is_read_again_and_no_more_than_the_limit() {
        let known = vec![relay(1), relay(2)];
        assert_eq!(kept(format(&known).unwrap().as_bytes()), known);
        let many: Vec<KnownRelay> = (0..=255).map(relay).collect();
        let at_limit = format(&many).unwrap();
        assert_eq!(kept(at_limit.as_bytes()), many[..MAX_RELAYS]);
    }

    #[test]
    fn a_file_that_is_damaged_too_long_or_none_is_no_reason_not_to_start() {
        let good = format(&[relay(1)]).unwrap();
        for bad in [
            "",
            "{",
            "null",
            "[{}]",
            "[{\"peer\":\"x\",\"addresses\":[],\"reached\":\"2026-01-01T00:00:00Z\"}]",
            &good.replace("/ip4", "/nothing"),
            &good.replace("reached", "else"),
            &" ".repeat(usize::try_from(MAX_BYTES).unwrap() + 1),
        ] {
            assert!(kept(bad.as_bytes()).is_empty(), "{bad:.40}");
        }
        assert!(kept(&[0xff; 100]).is_empty());
        assert!(read(Path::new("/nonexistent/relays.json")).is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_that_was_reached_is_in_the_file_without_anybody_s_asking() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relays.json");
        let mut config = MeshConfig::new(SigningKey::from_seed([1; 32]));
        config.relay_server = true;
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let (relay, _relay_in) = Mesh::start(config).await.unwrap();
        let status = relay.status().await.unwrap();
        let at = format!("{}/p2p/{}", status.listen[0], status.peer);
        let mut config = MeshConfig::new(SigningKey::from_seed([2; 32]));
        config.bootstrap = vec![at.parse().unwrap()];
        let (donor, _donor_in) = Mesh::start(config).await.unwrap();
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keep(donor.clone(), path.clone(), stop.clone()));
        let reached = async {
            while read(&path).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .unwrap();
        let known = read(&path);
        assert_eq!(known[0].peer, status.peer);
        assert!(known[0].addresses.contains(&status.listen[0]));
        stop.cancel();
        keeping.await.unwrap();
    }
}
