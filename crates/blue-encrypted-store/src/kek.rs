//! The key-encryption keys of an open store: asked for when they are needed, kept for a bounded time.
//!
//! Whoever has one can unwrap data keys. So none is used for longer than [`KeyLifetime`] says; then the provider is asked
//! again, and a key management service that has been told to refuse stops every process within that time. Of many
//! that need a key at once one asks, and the answer it gets, good or bad, is everybody's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use worldcompute_fault::Result;

use crate::crypto::same;
use crate::identity::{STORE, key_changed, unsound};
use crate::keys::{KCV_BYTES, KekContext, KekHandle, KeyProvider, UmkHandle, kcv};

/// The epoch of the key that wraps nothing and is never retired.
pub(crate) const OWN: u64 = 0;

/// How long, and how often, a key that a provider gave or unwrapped is used before the provider is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLifetime {
    /// Counted from the answer of the provider.
    pub max_age: Duration,
    /// Of a key-encryption key, how many data keys it unwraps or wraps, and how many loads and commits it permits; of a data
    /// key, how many loads. 0 counts as 1.
    pub max_uses: u64,
}

impl Default for KeyLifetime {
    /// Five minutes, a million uses.
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_uses: 1_000_000,
        }
    }
}

/// The key-encryption keys of one store.
pub(crate) struct Keks {
    pub(crate) provider: Arc<dyn KeyProvider>,
    /// What they are for; the epoch differs.
    pub(crate) owner: KekContext,
    lifetime: KeyLifetime,
    slots: Mutex<BTreeMap<u64, Arc<Slot>>>,
}

impl Keks {
    pub(crate) fn new(
        provider: Arc<dyn KeyProvider>,
        owner: KekContext,
        lifetime: KeyLifetime,
    ) -> Self {
        Self {
            provider,
            owner,
            lifetime,
            slots: Mutex::default(),
        }
    }

    /// How long they are used, and the data keys that they open.
    pub(crate) const fn lifetime(&self) -> KeyLifetime {
        self.lifetime
    }

    /// Takes over a key that has just been derived.
    ///
    /// # Errors
    /// `encryption_key_changed`; `key_provider_unsound` for the key of another epoch.
    pub(crate) fn keep(&self, epoch: u64, kek: KekHandle) -> Result<()> {
        let slot = self.slot(epoch);
        let kek = self.own_of(epoch, kek);
        let kept = slot.state().settle(kek, self.lifetime);
        kept.map(drop)
    }

    /// The key of that epoch.
    ///
    /// # Errors
    /// Those of the provider; `encryption_key_changed` when it gives another key than before, `key_provider_unsound` when it
    /// gives that of another epoch.
    pub(crate) async fn get(&self, epoch: u64) -> Result<Arc<KekHandle>> {
        let slot = self.slot(epoch);
        let answers = {
            let mut state = slot.state();
            if let Some(kek) = state.take() {
                return Ok(kek);
            }
            state.answers
        };
        let _turn = slot.turn.lock().await;
        if let Some(answer) = slot.state().since(answers) {
            return answer;
        }
        let derived = self.derive(epoch).await;
        let derived = derived.and_then(|kek| self.own_of(epoch, kek));
        slot.state().settle(derived, self.lifetime)
    }

    /// The key of an epoch that this process has not used yet, asked for at once and not kept.
    ///
    /// # Errors
    /// Those of the provider; `encryption_key_changed` when it has another master key by now; `key_provider_unsound` when it
    /// gives one key for two epochs.
    pub(crate) async fn derive_new(&self, epoch: u64) -> Result<KekHandle> {
        let umk = self.umk().await?;
        let own = self.derive_from(&umk, OWN).await?;
        self.slot(OWN).state().known(own)?;
        let kek = self.derive_from(&umk, epoch).await?;
        self.own_of(epoch, kek)
    }

    /// The key, unless it is that of another epoch, too: then retiring one would retire nothing.
    fn own_of(&self, epoch: u64, kek: KekHandle) -> Result<KekHandle> {
        let found = kcv(kek.bytes());
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let others = slots.iter().filter(|(known, _)| **known != epoch);
        let mut others = others.filter_map(|(_, slot)| slot.state().kcv);
        match others.any(|other| same(&other, &found)) {
            true => Err(unsound()),
            false => Ok(kek),
        }
    }

    async fn derive(&self, epoch: u64) -> Result<KekHandle> {
        self.derive_from(&self.umk().await?, epoch).await
    }

    async fn umk(&self) -> Result<UmkHandle> {
        let umk = self.provider.get_umk().await;
        umk.map_err(|error| error.at(STORE))
    }

    async fn derive_from(&self, umk: &UmkHandle, epoch: u64) -> Result<KekHandle> {
        let context = KekContext {
            epoch,
            ..self.owner.clone()
        };
        let kek = self.provider.derive_kek(umk, &context).await;
        kek.map_err(|error| error.at(STORE))
    }

    /// Lets go of the keys of epochs before `floor`.
    pub(crate) fn retire(&self, floor: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|epoch, _| *epoch == OWN || *epoch >= floor);
    }

    /// Whoever looks for one lets go of those that have outlived their time, which nobody may look for again.
    fn slot(&self, epoch: u64) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().for_each(|slot| slot.state().expire());
        slots.entry(epoch).or_default().clone()
    }
}

/// One key and the queue before it.
#[derive(Default)]
struct Slot {
    /// Held by the one who asks.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    warm: Option<Warm>,
    /// How often the provider has answered.
    answers: u64,
    /// Its last answer, when that was no key.
    refusal: Option<worldcompute_fault::Fault>,
    /// That of the first key it gave.
    kcv: Option<[u8; KCV_BYTES]>,
}

struct Warm {
    kek: Arc<KekHandle>,
    until: Option<Instant>,
    uses_left: u64,
}

impl State {
    fn expire(&mut self) {
        let now = Instant::now();
        self.warm
            .take_if(|warm| warm.uses_left == 0 || warm.until.is_some_and(|until| until <= now));
    }

    fn take(&mut self) -> Option<Arc<KekHandle>> {
        self.expire();
        let warm = self.warm.as_mut()?;
        warm.uses_left = warm.uses_left.saturating_sub(1);
        Some(warm.kek.clone())
    }

    /// What somebody else was answered meanwhile.
    fn since(&mut self, answers: u64) -> Option<Result<Arc<KekHandle>>> {
        if self.answers == answers {
            return None;
        }
        match &self.refusal {
            Some(fault) => Some(Err(fault.clone())),
            None => self.take().map(Ok),
        }
    }

    fn settle(
        &mut self,
        derived: Result<KekHandle>,
        lifetime: KeyLifetime,
    ) -> Result<Arc<KekHandle>> {
        self.answers = self.answers.wrapping_add(1);
        let checked = derived.and_then(|kek| self.known(kek));
        self.refusal = checked.as_ref().err().cloned();
        let kek = Arc::new(checked?);
        self.warm = Some(Warm {
            kek: kek.clone(),
            until: Instant::now().checked_add(lifetime.max_age),
            uses_left: lifetime.max_uses.saturating_sub(1),
        });
        Ok(kek)
    }

    fn known(&mut self, kek: KekHandle) -> Result<KekHandle> {
        let found = kcv(kek.bytes());
        if !same(self.kcv.get_or_insert(found), &found) {
            return Err(key_changed());
        }
        Ok(kek)
    }
}

#[cfg(test)]
mod tests;
