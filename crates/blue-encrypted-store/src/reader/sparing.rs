//! Reading a partition in which interrupted commits have left more than there is room for: page by page, and of what no
//! manifest lists only the names are kept.

use std::collections::HashSet;
use std::sync::Arc;

use worldcompute_fault::Result;

use super::{Loaded, MAX_ROWS, Sorted, Unlisted, follow, verified};
use crate::check::Check;
use crate::erasure::refuse_erased;
use crate::keyring::Keyring;
use crate::manifest::VerifiedRoot;
use crate::name::{ROOT, SortKey};
use crate::record::Scope;
use crate::row::Row;
use crate::store::Inner;
use crate::table::{DATA_KEYS, Order, Page, Room};
use crate::verify::Finding;

/// The most rows beside those that count: whoever can write the table must not keep this process busy for ever.
const MAX_UNLISTED: usize = 8 * MAX_ROWS;
/// What the sort keys of a manifest's chunks start with.
const CHUNKS: &str = "manifest#";

/// What counts, and the names of the rest.
struct Spared {
    rows: Vec<Row>,
    unlisted: Vec<Unlisted>,
}

/// As [`super::read`] reads it once.
pub(super) async fn read(
    store: &Arc<Inner>,
    scope: &Arc<Scope>,
    known: &Keyring,
) -> Result<Loaded> {
    let Spared { rows, unlisted } = spared(store, scope, known).await?;
    let mut loaded = verified(store, scope, known, rows).await?;
    for row in unlisted {
        row.sort_into(&mut loaded.uncommitted, &mut loaded.open.strays);
    }
    Ok(loaded)
}

/// The rows that count, for who looks at each; of the others it is told what they are.
pub(super) async fn inspect(
    store: &Arc<Inner>,
    scope: &Arc<Scope>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Row>> {
    let spared = spared(store, scope, &Keyring::empty(scope)).await?;
    let pk = scope.key.to_string();
    findings.extend(spared.unlisted.iter().map(|row| row.finding(&pk)));
    Ok(spared.rows)
}

async fn spared(store: &Arc<Inner>, scope: &Arc<Scope>, known: &Keyring) -> Result<Spared> {
    let mut room = store.limits.room();
    let (listed, keyring) = listed(store, scope, known, room).await?;
    let mut names = Room {
        rows: MAX_UNLISTED,
        ..room
    };
    let mut spared = Spared {
        rows: Vec::new(),
        unlisted: Vec::new(),
    };
    let (pk, mut after) = (scope.key.to_string(), None);
    loop {
        let table = &store.table;
        let page = table.page(&pk, Order::Forward, after.as_deref(), MAX_ROWS);
        let Page { rows, more } = page.await?;
        after = rows.last().map(|(sk, _)| sk.clone());
        for (sk, row) in rows {
            let row = row.map_err(|check| check.failed(&pk, "a row is of no type"))?;
            if counts(&sk, &listed) {
                room.take(&pk, row.size())?;
                spared.rows.push(row);
            } else {
                names.take(&pk, sk.len())?;
                let row = Unlisted::record(scope, &keyring, sk, row);
                spared.unlisted.push(row);
            }
        }
        if !more || after.is_none() {
            return Ok(spared);
        }
    }
}

/// Keys, root and all chunks count: a chunk's number is not used again while there is a row of it.
fn counts(sk: &str, listed: &HashSet<Arc<str>>) -> bool {
    match SortKey::parse(sk) {
        Some(SortKey::Record(_)) => listed.contains(sk),
        Some(_) => true,
        None => false,
    }
}

/// The sort keys of the records that the manifest lists now, and the data keys.
async fn listed(
    store: &Arc<Inner>,
    scope: &Arc<Scope>,
    known: &Keyring,
    mut room: Room,
) -> Result<(HashSet<Arc<str>>, Keyring)> {
    let (pk, table) = (scope.key.to_string(), &store.table);
    let root = table.get(&pk, ROOT).await?;
    Box::pin(refuse_erased(store, scope, root.as_ref())).await?;
    let deks = table.starting_with(&pk, DATA_KEYS, &mut room).await?;
    follow(store, &deks).await?;
    let keyring = store.wrapping().open_knowing(known, scope, deks).await?;
    let Some(root) = root else {
        return Ok((HashSet::new(), keyring));
    };
    let chunks = table.starting_with(&pk, CHUNKS, &mut room).await?;
    let chunks = Sorted::of(scope, chunks)?.chunks;
    let failed = |check: Check| check.failed(&scope.key, "the manifest is not as it was written");
    let root = VerifiedRoot::open(scope, &keyring, &root).map_err(failed)?;
    let listing = root.listing(scope, &keyring, |number| chunks.get(&number));
    let listing = listing.map_err(failed)?;
    let listed = listing.rows().map(|(sk, _)| sk.clone()).collect();
    Ok((listed, keyring))
}
