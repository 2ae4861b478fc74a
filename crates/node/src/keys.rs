//! The keys of a node's encrypted store, given out only against a permit of the gate.
//!
//! ```text
//! Store ─► GatedKeys ─► Release::intent ─► gate ─► Permit ─► Vault::open ─► Unlocked ─► the provider of the keys
//!                                           └► log of decisions: numbered, signed, denials too
//! ```
//!
//! The gate is asked before the store's own key is read, and before the first data key of each kind of partition is made
//! or unwrapped. Its answer holds for as long as the store is open: a job costs neither a decision nor a record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use blue_encrypted_store::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, Kind, Realm,
    UmkHandle,
};
use gait::gate::Request;
use gait::intent::{Context, Target};
use gait::session::SessionLog;
use gait::starter::{KEY_RELEASE, SECRET, key_label_of};
use gait::{Gate, Intent, IntentDraft, Permit, Redeemed};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::PeerId;
use worldcompute_telemetry::CorrelationId;

use crate::blocking::blocking;

/// The code of a denied release.
const DENIED: &str = "key_release_denied";

/// Which keys are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// The store's master key, and the key that wraps its data keys.
    Store,
    /// The data keys of all partitions of one kind.
    Partitions {
        /// The store's id.
        store: String,
        /// The kind.
        kind: Kind,
    },
}

impl Release {
    fn of(context: &DekContext) -> Self {
        Self::Partitions {
            store: context.store.clone(),
            kind: context.partition.kind,
        }
    }

    /// What policies call it: `key:store`, or `key:` and the kind.
    pub fn label(&self) -> String {
        match self {
            Self::Store => key_label_of("store"),
            Self::Partitions { kind, .. } => key_label_of(kind.as_str()),
        }
    }

    /// What the gate of `node` decides on: tool `worldcompute.key.release` with one target, [`Release::label`].
    ///
    /// # Errors
    /// What the gate finds wrong with the intent.
    pub fn intent(&self, node: &PeerId) -> Result<Intent> {
        let draft = IntentDraft {
            tool_name: KEY_RELEASE.to_owned(),
            args: self.arguments(),
            targets: vec![Target::label(self.label(), SECRET)],
            context: Context {
                identity: node.to_string(),
                workspace: "worldcompute".to_owned(),
                risk_class: "high".to_owned(),
                ..Context::default()
            },
            ..IntentDraft::default()
        };
        draft.normalise()
    }

    fn arguments(&self) -> Map<String, Value> {
        let texts = match self {
            Self::Store => vec![("opens", "store")],
            Self::Partitions { store, kind } => vec![
                ("opens", "partitions"),
                ("kind", kind.as_str()),
                ("store_id", store),
            ],
        };
        let texts = texts.into_iter();
        texts
            .map(|(name, text)| (name.to_owned(), text.into()))
            .collect()
    }
}

/// A provider of keys that nobody reaches without a permit.
pub struct Vault<P: ?Sized> {
    keys: Arc<P>,
    node: PeerId,
}

/// The part of a provider that a permit has opened; only [`Vault::open`] makes one.
///
/// ```compile_fail,E0451
/// # use worldcompute_node::keys::{Release, Unlocked};
/// # fn forge<P>(keys: std::sync::Arc<P>, release: Release, spent: std::sync::Arc<gait::Redeemed>) -> Unlocked<P> {
/// Unlocked { keys, release, spent }
/// # }
/// ```
pub struct Unlocked<P: ?Sized> {
    keys: Arc<P>,
    release: Release,
    spent: Arc<Redeemed>,
}

impl<P: ?Sized> Clone for Unlocked<P> {
    fn clone(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            release: self.release.clone(),
            spent: self.spent.clone(),
        }
    }
}

impl<P: ?Sized> Vault<P> {
    /// Locks the provider `keys` of `node` in.
    pub fn new(keys: Arc<P>, node: PeerId) -> Self {
        Self { keys, node }
    }

    /// Gives out the keys of `release`, if `permit` is for exactly that. Without one there are no keys:
    ///
    /// ```compile_fail,E0061
    /// # use worldcompute_node::keys::{Release, Vault};
    /// # fn open<P>(vault: Vault<P>) {
    /// vault.open(Release::Store);
    /// # }
    /// ```
    ///
    /// and no permit opens twice:
    ///
    /// ```compile_fail,E0382
    /// # use worldcompute_node::keys::{Release, Vault};
    /// # fn open<P>(vault: Vault<P>, permit: gait::Permit) {
    /// let _ = vault.open(permit, Release::Store);
    /// let _ = vault.open(permit, Release::Store);
    /// # }
    /// ```
    ///
    /// # Errors
    /// `permit_mismatch` for a permit for anything else, which is spent all the same.
    pub fn open(&self, permit: Permit, release: Release) -> Result<Unlocked<P>> {
        let spent = permit.redeem(&release.intent(&self.node)?.digest())?;
        Ok(Unlocked {
            keys: self.keys.clone(),
            release,
            spent: Arc::new(spent),
        })
    }
}

impl<P: ?Sized> Unlocked<P> {
    /// The provider, for what was given out and nothing else.
    fn keys(&self, wanted: &Release) -> Result<&P, KeyError> {
        if self.release == *wanted {
            return Ok(&self.keys);
        }
        let message = format!(
            "decision {} gives out {}, not {}",
            self.spent.trace_id(),
            self.release.label(),
            wanted.label()
        );
        Err(Fault::new(Category::PolicyBlocked, "permit_mismatch", message).into())
    }
}

/// A [`KeyProvider`] that asks the gate before it gives out a key.
pub struct GatedKeys<P: ?Sized> {
    vault: Vault<P>,
    desk: Arc<Desk>,
    /// What the gate said, yes or no: whoever may not have a key gets no second record by asking again.
    answers: Mutex<BTreeMap<Release, Result<Unlocked<P>>>>,
}

/// Where keys are asked for.
struct Desk {
    gate: Gate,
    node: PeerId,
    log: PathBuf,
}

impl<P: ?Sized> GatedKeys<P> {
    /// Guards the provider `keys` of `node` by `gate`, whose decisions are kept in the file `log`.
    pub fn new(keys: Arc<P>, gate: Gate, node: PeerId, log: PathBuf) -> Self {
        Self {
            vault: Vault::new(keys, node),
            desk: Arc::new(Desk { gate, node, log }),
            answers: Mutex::default(),
        }
    }

    async fn unlocked(&self, wanted: &Release) -> Result<Unlocked<P>, KeyError> {
        let mut answers = self.answers.lock().await;
        if let Some(answer) = answers.get(wanted) {
            return Ok(answer.clone()?);
        }
        let permit = self.ask(wanted).await;
        let answer = permit.and_then(|permit| self.vault.open(permit, wanted.clone()));
        // What failed for another reason than the policy may be asked again.
        if answer.as_ref().map_or_else(is_denial, |_| true) {
            answers.insert(wanted.clone(), answer.clone());
        }
        Ok(answer?)
    }

    async fn ask(&self, wanted: &Release) -> Result<Permit> {
        let (desk, wanted) = (self.desk.clone(), wanted.clone());
        let correlation = worldcompute_telemetry::current();
        blocking(move || desk.ask(&wanted, correlation)).await
    }
}

impl Desk {
    /// Decides and records; the record is on the disk before the permit is there.
    fn ask(&self, wanted: &Release, correlation: Option<CorrelationId>) -> Result<Permit> {
        let correlation = correlation
            .unwrap_or_else(CorrelationId::random)
            .to_string();
        let request = Request {
            correlation_id: &correlation,
            session: Some(SessionLog::at(&self.log)),
            ..Request::default()
        };
        let decision = self.gate.decide_on(&wanted.intent(&self.node)?, &request);
        let decision = decision.map_err(|fault| self.unrecorded(fault))?;
        let (label, trace) = (wanted.label(), decision.trace().trace_id());
        tracing::debug!(key = label, decision = trace, verdict = %decision.verdict(), "key asked for");
        decision.permit().map_err(|fault| denied(&label, &fault))
    }

    /// A decision that cannot be recorded gives out nothing, and the operator is told which file to mend.
    fn unrecorded(&self, fault: Fault) -> Fault {
        if fault.code() != "session_log_corrupt" {
            return fault;
        }
        let log = self.log.display();
        fault.hint(format!("move {log} away and keep it as evidence"))
    }
}

fn denied(label: &str, fault: &Fault) -> Fault {
    let message = format!("{label} is not given out: {}", fault.message());
    Fault::new(fault.category(), DENIED, message).hint(format!(
        "allow {label} in policy/keys.yaml of this node's home, then start the node again"
    ))
}

fn is_denial(fault: &Fault) -> bool {
    fault.code() == DENIED
}

#[async_trait]
impl<P: KeyProvider + ?Sized> KeyProvider for GatedKeys<P> {
    fn realm(&self) -> Realm {
        self.vault.keys.realm()
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        let unlocked = self.unlocked(&Release::Store).await?;
        unlocked.keys(&Release::Store)?.get_umk().await
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        let unlocked = self.unlocked(&Release::Store).await?;
        unlocked.keys(&Release::Store)?.create_umk().await
    }

    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        let unlocked = self.unlocked(&Release::Store).await?;
        let keys = unlocked.keys(&Release::Store)?;
        keys.derive_kek(umk, context).await
    }

    async fn check_kind(&self, store: &str, kind: Kind) -> Result<(), KeyError> {
        let wanted = Release::Partitions {
            store: store.to_owned(),
            kind,
        };
        self.unlocked(&wanted).await.map(drop)
    }

    async fn generate_dek(
        &self,
        kek: &KekHandle,
        context: &DekContext,
    ) -> Result<(DekHandle, EncryptedDek), KeyError> {
        let wanted = Release::of(context);
        let unlocked = self.unlocked(&wanted).await?;
        unlocked.keys(&wanted)?.generate_dek(kek, context).await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        let wanted = Release::of(context);
        let unlocked = self.unlocked(&wanted).await?;
        unlocked.keys(&wanted)?.encrypt_dek(kek, dek, context).await
    }

    async fn decrypt_dek(
        &self,
        kek: &KekHandle,
        encrypted: &EncryptedDek,
        context: &DekContext,
    ) -> Result<DekHandle, KeyError> {
        let wanted = Release::of(context);
        let unlocked = self.unlocked(&wanted).await?;
        let keys = unlocked.keys(&wanted)?;
        keys.decrypt_dek(kek, encrypted, context).await
    }
}

#[cfg(test)]
mod tests;
