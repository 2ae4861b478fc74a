//! The bytes of the stored format against vectors that an independent program made (`scripts/store_format.py`).

use std::collections::BTreeSet;
use std::sync::Arc;

use dynoxide::AttributeValue;
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::anchor::Anchor;
use crate::crypto::{Digest, expand, hmac_key};
use crate::draft::Clear;
use crate::embedded::Engine;
use crate::envelope::{self, Binding, Sealed, Suite};
use crate::erasure::{OwnKeys, Tombstone};
use crate::identity::{Opener, StoreRow};
use crate::kek::{Keks, KeyLifetime};
use crate::keyring::{DataKey, Epochs, Kept, Keyring, Wrapping, dek_row};
use crate::keys::{
    DekContext, DekHandle, EncryptedDek, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle,
    wrap,
};
use crate::lab::{self, Item, text};
use crate::manifest::{Live, VerifiedRoot};
use crate::name::{Place, RecordId, SortKey, parse_time};
use crate::record::{Content, Scope, build, verify};
use crate::row::{Attribute, Row, canonical_number};
use crate::sources::Sources;
use crate::{Id, Kind, PartitionKey, StoreConfig, StorePath};

const SCRIPT: &[u8] = include_bytes!("../../../scripts/store_format.py");
const VECTORS: &[u8] = include_bytes!("../tests/vectors/format_v1.json");

pub(crate) struct Vectors(Value);

impl Vectors {
    pub(crate) fn read() -> Self {
        Self(serde_json::from_slice(VECTORS).unwrap())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    pub(crate) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        hex::decode(self.text(name)).unwrap().try_into().unwrap()
    }

    fn time(&self, name: &str) -> Timestamp {
        parse_time(self.text(name)).unwrap()
    }

    /// The whole table.
    pub(crate) fn items(&self) -> Vec<Item> {
        serde_json::from_value(self.0["Items"].clone()).unwrap()
    }

    /// The row of that name.
    fn row(&self, name: &str) -> Row {
        let items = self.items().into_iter();
        let mut found = items.filter(|item| text(item, "sk") == self.text(name));
        // The store's own row and the partition's have one sort key.
        let item = match name {
            "meta_row" => found.nth(1),
            _ => found.next(),
        };
        row(item.unwrap())
    }

    /// The row of these keys.
    fn row_at(&self, pk: &str, sk: &str) -> Row {
        let mut items = self.items().into_iter();
        let item = items.find(|item| (text(item, "pk"), text(item, "sk")) == (pk, sk));
        row(item.unwrap())
    }

    /// What the same store came to two epochs later.
    pub(crate) fn later(&self) -> Self {
        Self(self.0["later"].clone())
    }

    pub(crate) fn value(&self, name: &str) -> Value {
        self.0[name].clone()
    }

    fn scope(&self) -> Scope {
        self.scope_of(self.text("id"))
    }

    fn scope_of(&self, id: &str) -> Scope {
        Scope {
            store: self.text("store").to_owned(),
            key: PartitionKey {
                kind: Kind::JOB,
                id: Id::parse(id).unwrap(),
            },
        }
    }

    fn place(&self) -> Place {
        Place::new(
            RecordId::new("task", "t1").unwrap(),
            self.time("created_at"),
        )
    }

    fn kek(&self) -> KekHandle {
        KekHandle::new(Zeroizing::new(self.array("kek")))
    }

    fn data_key(&self) -> DataKey {
        DataKey::new(1, DekHandle::new(Zeroizing::new(self.array("dek")))).unwrap()
    }

    async fn keyring(&self) -> Keyring {
        let owner = KekContext::of(self.text("store"), self.text("tenant"), self.text("user"));
        let wrapping = Wrapping {
            keks: &Keks::new(Arc::new(Fixed), owner, KeyLifetime::default()),
            epochs: Epochs::FIRST,
            row: [0; 16],
        };
        let rows = vec![self.row("dek_row")];
        wrapping.open(&self.scope(), rows).await.unwrap()
    }
}

fn row(item: Item) -> Row {
    let attributes = item.into_iter();
    Row(attributes
        .map(|(name, value)| (name, attribute(value)))
        .collect())
}

fn attribute(value: AttributeValue) -> Attribute {
    match value {
        AttributeValue::S(text) => Attribute::Text(text),
        AttributeValue::N(text) => Attribute::Number(canonical_number(&text).unwrap()),
        AttributeValue::B(bytes) => Attribute::Bytes(bytes),
        AttributeValue::BOOL(value) => Attribute::Bool(value),
        AttributeValue::NULL(true) => Attribute::Null,
        other => panic!("{other:?}"),
    }
}

/// The master key of the vectors.
pub(crate) struct Fixed;

#[async_trait::async_trait]
impl KeyProvider for Fixed {
    fn realm(&self) -> crate::Realm {
        crate::Realm::Any
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        let umk = Vectors::read().array("umk");
        Ok(UmkHandle::new(Zeroizing::new(umk)))
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.get_umk().await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        EncryptedDek::wrap(kek, dek, context)
    }
}

#[test]
fn the_vectors_are_those_of_the_committed_script() {
    let hash = hex::encode(crate::crypto::sha256(SCRIPT));
    assert_eq!(Vectors::read().text("script_sha256"), hash);
}

#[tokio::test]
async fn the_key_encryption_key_is_the_vectors() {
    let vectors = Vectors::read();
    let (store, tenant) = (vectors.text("store"), vectors.text("tenant"));
    let context = KekContext {
        epoch: 1,
        ..KekContext::of(store, tenant, vectors.text("user"))
    };
    let umk = Fixed.get_umk().await.unwrap();
    let kek = Fixed.derive_kek(&umk, &context).await.unwrap();
    assert_eq!(*kek.bytes(), vectors.array("kek"));
    let seal_key: [u8; 32] = *expand(kek.bytes(), b"blue/v1/store").unwrap();
    assert_eq!(seal_key, vectors.array("store_seal_key"));
}

#[tokio::test]
async fn the_stores_row_is_the_vectors() {
    let vectors = Vectors::read();
    let sources = Sources::new(
        || Vectors::read().time("created_at"),
        |out| {
            let store = hex::decode(Vectors::read().text("store")).unwrap();
            out[..store.len()].copy_from_slice(&store);
            Ok(())
        },
    );
    let config = StoreConfig::new(StorePath::Memory)
        .tenant(vectors.text("tenant"))
        .user(vectors.text("user"));
    let opener = Opener {
        table: &lab::table(&Engine::memory().unwrap()),
        set_up: true,
        anchor: Arc::new(Anchor::memory()),
        keys: &Fixed,
        config: &config,
    };
    assert_eq!(
        opener.new_row(&sources).await.unwrap(),
        vectors.row("store_row")
    );
}

#[tokio::test]
async fn the_wrapped_data_key_is_the_vectors() {
    let vectors = Vectors::read();
    let scope = vectors.scope();
    let context = DekContext {
        store: scope.store.clone(),
        partition: scope.key.clone(),
        version: 1,
        epoch: 1,
    };
    let dek = Zeroizing::new(vectors.array("dek"));
    let wrapped = wrap(&vectors.kek(), &context, &dek, vectors.array("wrap_nonce")).unwrap();
    let row = dek_row(
        &scope,
        &vectors.data_key(),
        &wrapped,
        Kept {
            created_at: vectors.time("created_at"),
            active: true,
            ..Kept::default()
        },
        vectors.time("created_at"),
    );
    assert_eq!(row, vectors.row("dek_row"));
    let keyring = vectors.keyring().await;
    assert_eq!(keyring.get(1).unwrap().dek.bytes(), &*dek);
}

/// The key of an epoch of the vectors' store.
async fn kek_of(epoch: u64) -> KekHandle {
    let vectors = Vectors::read();
    let owner = KekContext::of(
        vectors.text("store"),
        vectors.text("tenant"),
        vectors.text("user"),
    );
    let umk = Fixed.get_umk().await.unwrap();
    let context = KekContext { epoch, ..owner };
    Fixed.derive_kek(&umk, &context).await.unwrap()
}

#[tokio::test]
async fn the_stores_row_at_a_later_epoch_is_the_vectors() {
    let vectors = Vectors::read();
    let epochs = Epochs {
        current: 3,
        floor: 2,
    };
    let first = StoreRow::parse(&vectors.row("store_row")).unwrap();
    let row = first.at(epochs).row(&kek_of(3).await).unwrap();
    assert_eq!(row, vectors.later().row_at("store", "meta"));
}

#[tokio::test]
async fn data_keys_of_other_versions_and_epochs_are_the_vectors() {
    let (vectors, later) = (Vectors::read(), Vectors::read().later());
    let scope = vectors.scope_of("j1");
    let created = [vectors.time("created_at"), vectors.time("updated_at")];
    for (version, epoch) in [(1, 2), (2, 3)] {
        let at = usize::try_from(version).unwrap() - 1;
        let array = |name: &str| {
            let bytes = later.value(name)[at].as_str().unwrap().to_owned();
            hex::decode(bytes).unwrap()
        };
        let dek: [u8; 32] = array("deks").try_into().unwrap();
        let nonce = array("wrap_nonces").try_into().unwrap();
        let context = DekContext {
            store: scope.store.clone(),
            partition: scope.key.clone(),
            version,
            epoch,
        };
        let wrapped = wrap(&kek_of(epoch).await, &context, &Zeroizing::new(dek), nonce).unwrap();
        let key = DataKey::new(version, DekHandle::new(Zeroizing::new(dek))).unwrap();
        let kept = Kept {
            created_at: created[at],
            active: version == 2,
            ..Kept::default()
        };
        let row = dek_row(&scope, &key, &wrapped, kept, vectors.time("updated_at"));
        assert_eq!(row, later.row_at("job#j1", &format!("dek#{version:04}")));
    }
}

#[tokio::test]
async fn a_tombstone_is_the_vectors() {
    let vectors = Vectors::read();
    let keys = OwnKeys::new(&kek_of(0).await).unwrap();
    let row = Tombstone::row(&vectors.scope_of("j2"), &keys, vectors.time("updated_at"));
    assert_eq!(row, vectors.later().row_at("job#j2", "manifest"));
}

#[tokio::test]
async fn a_record_is_the_vectors() {
    let vectors = Vectors::read();
    let (scope, place) = (vectors.scope(), vectors.place());
    assert_eq!(scope.key.aad(&place), vectors.array::<32>("aad"));
    let fields = [
        ("attempts", Attribute::integer(7)),
        ("paused", Attribute::Bool(true)),
        ("reason", Attribute::Null),
        ("score", Attribute::Number("0.85".to_owned())),
        ("status", Attribute::Text("open".to_owned())),
    ];
    let content = Content {
        place: &place,
        created_at: vectors.time("created_at"),
        updated_at: vectors.time("updated_at"),
        version: 3,
        clear: Clear {
            fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
            listed_as: Some("open".to_owned()),
        },
        sealed: vectors.text("payload").as_bytes(),
    };
    let (row, _) = build(
        &scope,
        &vectors.data_key(),
        content,
        &vectors.array("random"),
    )
    .unwrap();
    assert_eq!(row, vectors.row("record_row"));
    assert_eq!(hex::encode(row.canonical()), vectors.text("canonical"));
    let keyring = vectors.keyring().await;
    let verified = verify(&scope, &keyring, vectors.row("record_row")).unwrap();
    let payload = verified.payload(&scope, &keyring).unwrap();
    assert_eq!(&*payload, vectors.text("payload").as_bytes());
}

#[tokio::test]
async fn the_manifest_is_the_vectors() {
    let vectors = Vectors::read();
    let (scope, keyring) = (vectors.scope(), vectors.keyring().await);
    let chunk = vectors.row("chunk_row");
    let root = VerifiedRoot::open(&scope, &keyring, &vectors.row("root_row")).unwrap();
    assert_eq!(root.header.version, 9);
    let listing = root
        .listing(&scope, &keyring, |number| (number == 7).then_some(&chunk))
        .unwrap();
    let task: Arc<str> = vectors.place().sort_key().into();
    let listed = listing.rows().find(|(sk, _)| **sk == task).unwrap().1;
    let at = vectors.time("created_at");
    let live = ["record_row", "meta_row", "other_row"].map(|name| {
        let sk = vectors.text(name);
        let Some(SortKey::Record(place)) = SortKey::parse(sk) else {
            panic!("{sk}");
        };
        Live {
            sk: sk.into(),
            record: place.record,
            created_at: at,
            key: 1,
            bytes: 0,
        }
    });
    let mut manifest = listing.into_manifest(BTreeSet::new(), live.into_iter());
    manifest.header.version = 8;
    manifest.update(&task, listed, 1);
    let updated_at = vectors.time("updated_at");
    let written = manifest.write(&scope, &vectors.data_key(), updated_at, false);
    assert_eq!(written.chunks, [chunk]);
    assert_eq!(written.root, vectors.row("root_row"));
}

#[test]
fn the_alignment_score_is_the_vectors() {
    let score = Vectors(Vectors::read().0["score"].clone());
    let (dek, plaintext) = (score.array("dek"), score.text("plaintext"));
    assert_eq!((dek, plaintext), ([1; 32], "alignment_score:0.85"));
    let vectors = Vectors::read();
    let binding = Binding {
        suite: Suite::V1,
        store: vectors.text("store"),
        key_id: score.text("key_id"),
        aad: vectors.array::<32>("aad") as Digest,
        version: 1,
    };
    let nonce_key = hmac_key(&expand(&dek, b"blue/v1/nonce").unwrap());
    let random = score.array("random");
    let sealed = envelope::seal(&dek, &nonce_key, &binding, &random, plaintext.as_bytes());
    let want = Sealed {
        nonce: score.array("nonce"),
        commitment: score.array("commitment"),
        ciphertext: hex::decode(score.text("ciphertext")).unwrap(),
    };
    assert_eq!(sealed.unwrap(), want);
    assert_eq!(
        &*envelope::open(&dek, &binding, &want).unwrap(),
        plaintext.as_bytes()
    );
}
