//! A provider of keys whose every call is counted, from the opening of the store on.

use std::sync::Arc;

use async_trait::async_trait;
use worldcompute_fault::Category;

use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
};
use crate::metrics::Metrics;
use crate::{Kind, Realm};

/// Counts what is asked of the provider `keys`, granted or not.
pub(crate) struct Counted {
    pub(crate) keys: Arc<dyn KeyProvider>,
    pub(crate) metrics: Metrics,
}

impl Counted {
    fn count<T>(&self, call: &'static str, answer: Result<T, KeyError>) -> Result<T, KeyError> {
        let refused = answer.as_ref().err().map(category);
        self.metrics.called(call, refused);
        answer
    }
}

fn category(error: &KeyError) -> Category {
    match error {
        KeyError::Missing(_) => Category::DependencyMissing,
        KeyError::Refused(fault) => fault.category(),
        KeyError::Commitment | KeyError::Tag | KeyError::KeyCheck => Category::VerificationFailed,
    }
}

#[async_trait]
impl KeyProvider for Counted {
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
        let kek = self.keys.derive_kek(umk, context).await;
        self.count("derive_kek", kek)
    }

    async fn check_kind(&self, store: &str, kind: Kind) -> Result<(), KeyError> {
        let checked = self.keys.check_kind(store, kind).await;
        self.count("check_kind", checked)
    }

    async fn generate_dek(
        &self,
        kek: &KekHandle,
        context: &DekContext,
    ) -> Result<(DekHandle, EncryptedDek), KeyError> {
        let made = self.keys.generate_dek(kek, context).await;
        self.count("generate_dek", made)
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        let wrapped = self.keys.encrypt_dek(kek, dek, context).await;
        self.count("encrypt_dek", wrapped)
    }

    async fn decrypt_dek(
        &self,
        kek: &KekHandle,
        encrypted: &EncryptedDek,
        context: &DekContext,
    ) -> Result<DekHandle, KeyError> {
        let dek = self.keys.decrypt_dek(kek, encrypted, context).await;
        self.count("decrypt_dek", dek)
    }
}
