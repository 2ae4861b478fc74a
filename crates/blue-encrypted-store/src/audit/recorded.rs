//! A provider of keys whose every use is on record.

use std::sync::Arc;

use async_trait::async_trait;
use worldcompute_fault::Fault;

use super::{Audit, AuditOutcome, Draft, Lane, Operation};
use crate::Realm;
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
};
use crate::name::Kind;

/// Records what is asked of the provider `keys`, granted or not.
pub(crate) struct Recorded {
    pub(crate) keys: Arc<dyn KeyProvider>,
    pub(crate) audit: Arc<Audit>,
}

impl Recorded {
    /// Nothing is handed out that is not on record. A refusal stays what it is, also when it cannot be recorded.
    fn record<T>(
        &self,
        lane: Lane,
        drafts: impl IntoIterator<Item = Draft>,
        result: Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        for draft in drafts {
            match &result {
                Ok(_) => self.audit.record(lane, draft)?,
                Err(error) => {
                    let failed = draft.ended(outcome(error));
                    self.audit
                        .record(lane, failed)
                        .unwrap_or_else(|fault| unrecorded(&fault));
                }
            }
        }
        result
    }
}

fn outcome(error: &KeyError) -> AuditOutcome {
    match error {
        KeyError::Refused(fault) => AuditOutcome::of(fault),
        _ => AuditOutcome::Failure,
    }
}

/// Of a failure: of a success it is the caller's error.
fn unrecorded(fault: &Fault) {
    tracing::error!(
        code = fault.code(),
        reason = fault.message(),
        "a failure is not on record"
    );
}

#[async_trait]
impl KeyProvider for Recorded {
    fn realm(&self) -> Realm {
        self.keys.realm()
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        self.keys.get_umk().await
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.keys.create_umk().await
    }

    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        self.audit.check(Lane::STORE)?;
        let kek = self.keys.derive_kek(umk, context).await;
        let draft = Draft::kek(Operation::DeriveKek, context.epoch);
        self.record(Lane::STORE, [draft], kek)
    }

    async fn check_kind(&self, store: &str, kind: Kind) -> Result<(), KeyError> {
        let checked = self.keys.check_kind(store, kind).await;
        let draft = Draft::new(Operation::GenerateDek, format!("dek#{}", kind.as_str()));
        // That a key is to be had is no use of it.
        let draft = checked.is_err().then_some(draft);
        self.record(Lane::STORE, draft, checked)
    }

    async fn generate_dek(
        &self,
        kek: &KekHandle,
        context: &DekContext,
    ) -> Result<(DekHandle, EncryptedDek), KeyError> {
        let lane = Lane::of(&context.partition);
        self.audit.check(lane)?;
        let made = self.keys.generate_dek(kek, context).await;
        let draft = |operation| Draft::dek(operation, &context.partition, context.version);
        let drafts = [draft(Operation::GenerateDek), draft(Operation::WrapDek)];
        let count = if made.is_ok() { 2 } else { 1 };
        self.record(lane, drafts.into_iter().take(count), made)
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        let lane = Lane::of(&context.partition);
        self.audit.check(lane)?;
        let wrapped = self.keys.encrypt_dek(kek, dek, context).await;
        let draft = Draft::dek(Operation::WrapDek, &context.partition, context.version);
        self.record(lane, [draft], wrapped)
    }

    async fn decrypt_dek(
        &self,
        kek: &KekHandle,
        encrypted: &EncryptedDek,
        context: &DekContext,
    ) -> Result<DekHandle, KeyError> {
        let lane = Lane::of(&context.partition);
        self.audit.check(lane)?;
        let dek = self.keys.decrypt_dek(kek, encrypted, context).await;
        let draft = Draft::dek(Operation::UnwrapDek, &context.partition, context.version);
        self.record(lane, [draft], dek)
    }
}
