//! What a TPM opens, for whom, and when it does not; against swtpm, and skipped where there is none.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tss_esapi::handles::{AuthHandle, PcrHandle};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Auth;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::Fault;
use zeroize::Zeroizing;

use super::blob::MAX_BLOB_BYTES;
use super::chip::Chip;
use super::emulator::{Bus, Emulator, is_there, port_of, ports};
use super::{PcrValues, Place, TIME_LIMIT, Tpm, Tpm2KeyProvider, sealed};
use crate::crypto::{Key, sha256};
use crate::keys::{KekContext, KeyError, KeyProvider, UmkHandle};
use crate::lab::{Lab, MemoryKey, partition, put, secrets};
use crate::{Realm, StoreConfig, StorePath};

const VECTORS: &str = include_str!("../../tests/vectors/format_v1.json");

/// A machine with a TPM, and a home.
struct Machine {
    tpm: Emulator,
    home: TempDir,
}

impl Machine {
    fn new() -> Option<Self> {
        is_there().then(|| Self {
            tpm: Emulator::new(),
            home: tempfile::tempdir().unwrap(),
        })
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("keys/umk.tpm2")
    }

    fn keys(&self) -> Tpm2KeyProvider {
        Tpm2KeyProvider::new(self.tpm.tpm(), self.file())
    }

    fn place(&self) -> Place {
        Place {
            tpm: self.tpm.tpm(),
            file: self.file(),
        }
    }

    fn rewrite(&self, bytes: &[u8]) {
        File::create(self.file()).unwrap().write_all(bytes).unwrap();
    }
}

fn bytes(key: Result<UmkHandle, KeyError>) -> Result<[u8; 32], Fault> {
    let key = key.map_err(|error| error.at("store"))?;
    Ok(*key.bytes().unwrap())
}

fn code<T>(result: Result<T, KeyError>) -> String {
    result
        .err()
        .map_or_else(String::new, |error| error.at("store").code().to_owned())
}

fn umk(key: [u8; 32]) -> UmkHandle {
    UmkHandle::new(Zeroizing::new(key))
}

/// A blob whose digest holds again.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 32);
    let digest = sha256(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

#[tokio::test]
async fn the_same_key_comes_back_after_every_start() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    assert!(matches!(
        machine.keys().get_umk().await,
        Err(KeyError::Missing(_))
    ));
    let made = bytes(machine.keys().create_umk().await).unwrap();
    assert_ne!(made, [0; 32]);
    assert_eq!(bytes(machine.keys().get_umk().await).unwrap(), made);
    assert_eq!(bytes(machine.keys().create_umk().await).unwrap(), made);
    machine.tpm.reboot();
    assert_eq!(bytes(machine.keys().get_umk().await).unwrap(), made);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&machine.file()), 0o600);
    assert_eq!(mode(machine.file().parent().unwrap()), 0o700);
}

/// A TPM without a resource manager has room for one program at a time, and says so.
async fn patiently(keys: &Tpm2KeyProvider) -> [u8; 32] {
    loop {
        match bytes(keys.create_umk().await) {
            Err(fault) if fault.code() == "tpm_busy" => tokio::task::yield_now().await,
            made => return made.unwrap(),
        }
    }
}

#[tokio::test]
async fn two_first_runs_race_to_one_key() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let (one, two) = (machine.keys(), machine.keys());
    let (one, two) = tokio::join!(patiently(&one), patiently(&two));
    assert_eq!(one, two);
}

#[tokio::test]
async fn the_tpm_gives_the_keys_of_the_vectors() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |name: &str| vectors[name].as_str().unwrap();
    let bytes = |name: &str| <[u8; 32]>::try_from(hex::decode(text(name)).unwrap()).unwrap();
    let keys = machine.keys();
    keys.seal(&umk(bytes("umk"))).await.unwrap();
    let context = KekContext {
        epoch: 1,
        ..KekContext::of(text("store"), text("tenant"), text("user"))
    };
    let opened = keys.get_umk().await.unwrap();
    let kek = keys.derive_kek(&opened, &context).await.unwrap();
    assert_eq!(*kek.bytes(), bytes("kek"));
}

#[tokio::test]
async fn a_table_that_was_written_with_a_file_opens_with_the_tpm_and_back() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let lab = Lab::new();
    put(
        &partition(&lab.store().await, "j1"),
        &[("t1", "from the file")],
    )
    .await;
    let keys = machine.keys();
    let file = MemoryKey([1; 32]).get_umk().await.unwrap();
    keys.seal(&file).await.unwrap();
    let config = || StoreConfig::new(StorePath::Memory);
    let store = lab.try_store_with(config(), Arc::new(keys)).await.unwrap();
    put(&partition(&store, "j1"), &[("t2", "from the TPM")]).await;
    assert_eq!(secrets(&partition(&lab.store().await, "j1")).await.len(), 2);

    let other = Machine::new().unwrap();
    other.keys().create_umk().await.unwrap();
    let refused = lab.try_store_with(config(), Arc::new(other.keys())).await;
    assert_eq!(refused.unwrap_err().code(), "encryption_key_changed");
}

#[tokio::test]
async fn a_key_is_sealed_once_and_one_that_is_elsewhere_not_at_all() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let keys = machine.keys();
    let elsewhere = keys.seal(&UmkHandle::remote()).await;
    assert_eq!(code(elsewhere), "key_provider_mismatch");
    assert!(!machine.file().exists());
    keys.seal(&umk([3; 32])).await.unwrap();
    assert_eq!(code(keys.seal(&umk([4; 32])).await), "already_exists");
    assert_eq!(bytes(keys.get_umk().await).unwrap(), [3; 32]);
}

#[tokio::test]
async fn another_firmware_or_secure_boot_state_does_not_get_the_key() {
    for (register, named) in [(PcrHandle::Pcr0, "PCR 0"), (PcrHandle::Pcr7, "PCR 7")] {
        let Some(mut machine) = Machine::new() else {
            return;
        };
        let made = bytes(machine.keys().create_umk().await).unwrap();
        machine.tpm.extend(PcrHandle::Pcr8);
        assert_eq!(bytes(machine.keys().get_umk().await).unwrap(), made);
        machine.tpm.extend(register);
        let fault = bytes(machine.keys().get_umk().await).unwrap_err();
        assert_eq!(fault.code(), "tpm_pcr_mismatch");
        assert!(
            fault.message().contains(&format!(": {named} changed")),
            "{}",
            fault.message()
        );
        assert_eq!(code(machine.keys().reseal(None).await), "tpm_pcr_mismatch");
        machine.tpm.reboot();
        assert_eq!(bytes(machine.keys().get_umk().await).unwrap(), made);
    }
}

#[tokio::test]
async fn it_is_the_tpm_that_refuses_and_no_text_in_the_file_persuades_it() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    machine.tpm.extend(PcrHandle::Pcr7);
    let mut blob = machine.place().read().unwrap();
    {
        let mut chip = Chip::open(&machine.tpm.tpm()).unwrap();
        assert!(chip.unseal(&blob.seals[0]).unwrap().is_none());
        blob.seals[0].values = chip.pcrs().unwrap();
    }
    machine.rewrite(&blob.encode());
    assert_eq!(code(machine.keys().get_umk().await), "tpm_blob_corrupt");
}

#[tokio::test]
async fn a_key_that_is_resealed_for_an_update_opens_before_it_and_after_it() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let keys = machine.keys();
    let made = bytes(keys.create_umk().await).unwrap();
    let before = keys.pcr_values().await.unwrap();
    machine.tpm.extend(PcrHandle::Pcr0);
    let updated = keys.pcr_values().await.unwrap();
    assert_ne!(updated, before);
    machine.tpm.reboot();

    let keys = machine.keys();
    keys.reseal(Some(updated.clone())).await.unwrap();
    assert_eq!(bytes(keys.get_umk().await).unwrap(), made);
    machine.tpm.extend(PcrHandle::Pcr0);
    assert_eq!(bytes(keys.get_umk().await).unwrap(), made);
    machine.tpm.extend(PcrHandle::Pcr7);
    let fault = bytes(keys.get_umk().await).unwrap_err();
    assert!(
        fault.message().contains(": PCR 7 changed"),
        "{}",
        fault.message()
    );

    machine.tpm.reboot();
    machine.tpm.extend(PcrHandle::Pcr0);
    let keys = machine.keys();
    keys.reseal(None).await.unwrap();
    assert_eq!(bytes(keys.get_umk().await).unwrap(), made);
    machine.tpm.reboot();
    let taken_back = machine.keys().get_umk().await;
    assert_eq!(
        code(taken_back),
        "tpm_pcr_mismatch",
        "what was before the update is over"
    );
    let mode = fs::metadata(machine.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[tokio::test]
async fn resealing_for_what_is_there_makes_one_way_to_open_it() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let keys = machine.keys();
    keys.create_umk().await.unwrap();
    let now = keys.pcr_values().await.unwrap();
    keys.reseal(Some(now)).await.unwrap();
    assert_eq!(machine.place().read().unwrap().seals.len(), 1);
}

#[tokio::test]
async fn a_sealed_key_with_any_byte_changed_does_not_open() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    let whole = fs::read(machine.file()).unwrap();
    let content = whole.len() - 32;
    let root = 16..16 + 34;
    let (mut flips, keys) = (0, machine.keys());
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        machine.rewrite(&changed);
        assert_eq!(code(keys.get_umk().await), "tpm_blob_corrupt", "byte {at}");
        flips += 1;
        if at < content {
            machine.rewrite(&mended(changed));
            let expected = match root.contains(&at) {
                true => "tpm_blob_of_another_tpm",
                false => "tpm_blob_corrupt",
            };
            assert_eq!(
                code(keys.get_umk().await),
                expected,
                "byte {at}, digest mended"
            );
            flips += 1;
        }
    }
    machine.rewrite(&whole);
    keys.get_umk().await.unwrap();
    println!("sealed key: {flips} changed bytes, 0 opened");
}

#[tokio::test]
async fn a_sealed_key_that_is_cut_extended_or_too_large_is_corrupt() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    let whole = fs::read(machine.file()).unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    let huge = vec![0; usize::try_from(MAX_BLOB_BYTES).unwrap() + 1];
    let cuts = (0..whole.len()).map(|length| whole[..length].to_vec());
    for bytes in cuts.chain([longer, huge]) {
        machine.rewrite(&bytes);
        let found = code(machine.keys().get_umk().await);
        assert_eq!(found, "tpm_blob_corrupt", "{} bytes", bytes.len());
    }
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(code(machine.keys().get_umk().await), "insecure_permissions");
}

#[tokio::test]
async fn another_tpm_does_not_open_it() {
    let (Some(machine), Some(other)) = (Machine::new(), Machine::new()) else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    let moved = Tpm2KeyProvider::new(other.tpm.tpm(), machine.file());
    assert_eq!(code(moved.get_umk().await), "tpm_blob_of_another_tpm");

    // Nor when the file says that it is of that one.
    let mut blob = machine.place().read().unwrap();
    blob.root = *Chip::open(&other.tpm.tpm()).unwrap().root_name();
    machine.rewrite(&blob.encode());
    assert_eq!(code(moved.get_umk().await), "tpm_blob_corrupt");
}

#[tokio::test]
async fn who_listens_on_the_bus_does_not_hear_the_key() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let bus = Bus::to(&machine.tpm, false);
    let keys = Tpm2KeyProvider::new(bus.tpm(), machine.file());
    let made = bytes(keys.create_umk().await).unwrap();
    assert_eq!(bytes(keys.get_umk().await).unwrap(), made);
    let blob = machine.place().read().unwrap();
    assert!(bus.heard(&blob.seals[0].private), "everything is heard");
    for part in made.chunks(8) {
        assert!(!bus.heard(part));
    }
}

#[tokio::test]
async fn who_changes_an_answer_on_the_bus_is_found_out() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    let bus = Bus::to(&machine.tpm, true);
    let keys = Tpm2KeyProvider::new(bus.tpm(), machine.file());
    assert_eq!(code(keys.get_umk().await), "tpm_answer_distrusted");
}

#[tokio::test]
async fn an_owners_password_is_named() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.keys().create_umk().await.unwrap();
    {
        let mut chip = Chip::open(&machine.tpm.tpm()).unwrap();
        let password = Auth::try_from(b"secret".to_vec()).unwrap();
        let set = chip
            .context()
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.hierarchy_change_auth(AuthHandle::Owner, password)
            });
        set.unwrap();
    }
    assert_eq!(code(machine.keys().get_umk().await), "tpm_owner_password");
}

#[tokio::test]
async fn what_is_sealed_is_opened_before_it_is_relied_on() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut chip = Chip::open(&machine.tpm.tpm()).unwrap();
    let elsewhere = PcrValues {
        pcr0: [9; 32],
        pcr7: [0; 32],
    };
    let made = sealed(&mut chip, &Key::new([5; 32]), [Some(elsewhere), None]);
    assert_eq!(code(made), "tpm_busy");
}

#[tokio::test]
async fn no_tpm_is_told_from_one_that_refuses() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("keys/umk.tpm2");
    let regular = home.path().join("regular");
    write_atomic(&regular, b"untouched", Mode::Private).unwrap();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    for tpm in [
        Tpm::Device(home.path().join("tpmrm0")),
        Tpm::Device(regular.clone()),
        Tpm::Swtpm(port),
    ] {
        let made = Tpm2KeyProvider::new(tpm.clone(), &file).create_umk().await;
        assert_eq!(code(made), "tpm_missing", "{tpm:?}");
    }
    assert_eq!(fs::read(&regular).unwrap(), b"untouched");
    assert!(!file.exists());
}

#[tokio::test(start_paused = true)]
async fn a_tpm_that_never_answers_holds_nobody_up_for_longer_than_its_limit() {
    let silent = ports();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("keys/umk.tpm2");
    let keys = Tpm2KeyProvider::new(Tpm::Swtpm(port_of(&silent.0)), file);
    let late = Duration::from_millis(1);
    let (first, second, ()) = tokio::join!(
        keys.create_umk(),
        keys.create_umk(),
        tokio::time::advance(TIME_LIMIT + late)
    );
    for waited in [first, second] {
        assert_eq!(code(waited), "tpm_unresponsive");
    }
    drop(silent);
}

#[test]
fn an_emulator_is_for_development_and_a_device_for_every_table() {
    let keys = |tpm| Tpm2KeyProvider::new(tpm, "umk.tpm2").realm();
    assert_eq!(keys(Tpm::Swtpm(2321)), Realm::Local);
    assert_eq!(keys(Tpm::default()), Realm::Any);
}

#[test]
fn the_policy_is_the_digest_that_other_software_computes() {
    let nothing = PcrValues {
        pcr0: [0; 32],
        pcr7: [0; 32],
    };
    let expected = "02e3642b3e29eeccfffd8031c00a6f0a0febe5ceea2f6ef6b0322fe81598cf31";
    assert_eq!(hex::encode(nothing.policy()), expected);
}

#[test]
fn a_machine_that_does_not_measure_is_told_by_either_register() {
    let values = |pcr0, pcr7| PcrValues {
        pcr0: [pcr0; 32],
        pcr7: [pcr7; 32],
    };
    assert!(values(1, 1).are_measured());
    for empty in [values(0, 0), values(0, 1), values(1, 0)] {
        assert!(!empty.are_measured());
        let refused = Tpm::default().check_measured(&empty).unwrap_err();
        assert_eq!(refused.code(), "tpm_not_measured");
        Tpm::Swtpm(1).check_measured(&empty).unwrap();
    }
}
