//! The grammar of `worldcompute store`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use worldcompute_proof::Sha256;

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Make this node's store: identity, master key, and the table if it is in the home
    #[command(
        after_help = "Example:\n  worldcompute store init\n\nWhere the store's key is lost and a person answers, it asks whether to reset the database."
    )]
    Init,
    /// Make table and store where the environment says: once for each table outside of this machine
    SetupTables(SetupArgs),
    /// Where the store is, and how it stands
    #[command(after_help = "Example:\n  worldcompute store status --json")]
    Status,
    /// Look through the whole store: name every item that is not what was written
    Verify(WalkArgs),
    /// Verify the record of every use of the store's keys
    #[command(
        after_help = "Example:\n  worldcompute store verify-chain\n\nWhat is read is on record: the audit gets events, nothing else changes.\nExit status: 0 whole, 1 broken, or not looked through."
    )]
    VerifyChain,
    /// Print the record of every use of the store's keys
    Events(EventsArgs),
    /// Write one partition to a file, sealed as it is in the store
    Export(ExportArgs),
    /// Read a partition from such a file: all of it, or nothing
    Import(ImportArgs),
    /// Begin a new key: one partition's, or the one that wraps all of them
    Rotate(RotateArgs),
    /// Destroy a partition's keys and records for good, and print the certificate
    Erase(EraseArgs),
    /// Compare the certificate of an erasure with the record of the keys and the table
    CheckCertificate(CertificateArgs),
    /// Seal the master key in this machine's TPM
    Seal(SealArgs),
    /// Seal it anew: before an update of the firmware, and after it
    Reseal(ResealArgs),
    /// Recorded sessions of agents
    #[command(
        subcommand,
        after_help = "Examples:\n  gait run record --input run.json --store ~/.local/share/worldcompute\n  worldcompute store dialogue list"
    )]
    Dialogue(DialogueCommand),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store setup-tables\n  worldcompute store setup-tables --json\n\nDYNAMODB_ENDPOINT, BLUE_PROFILE and BLUE_TABLE say where; its id goes into BLUE_STORE_ID of every process. The home remembers the place, and has no other."
)]
pub struct SetupArgs {
    /// Have the home's store here from now on; what was elsewhere stays there, with its key
    #[arg(long = "move")]
    pub moves: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store events\n  worldcompute store events --lane 3 --after 512 --json\n\nEach event is verified; none has content or a key in it. One call prints 10,000 at most, and says where to go on."
)]
pub struct EventsArgs {
    /// Only those of this lane
    #[arg(long, value_name = "0-7", value_parser = clap::value_parser!(u8).range(0..8))]
    pub lane: Option<u8>,
    /// Only those behind the one with this number
    #[arg(long, value_name = "SEQ", default_value_t = 0, requires = "lane")]
    pub after: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store verify\n  worldcompute store verify --list\n\nWhat is read is on record: the audit gets events, nothing else changes.\nExit status: 0 sound, 1 not, or not looked through."
)]
pub struct WalkArgs {
    /// List every partition with its records
    #[arg(long)]
    pub list: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  worldcompute store export job#01j9zc3f5v --output job.bundle\n\nWhoever has the file and the store's master key can read it."
)]
pub struct ExportArgs {
    /// The partition, as 'store verify --list' names it: kind#id
    pub partition: String,

    /// The file to write
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store import job.bundle\n  worldcompute store import job.bundle --source-key other/keys/umk.key\n\nNothing that is whole is overwritten; what is damaged is mended."
)]
pub struct ImportArgs {
    /// The file that an export wrote
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,

    /// The master key of the store that the file is from, where that is another one: a file, kms:ARN or tpm2:FILE
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub source_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store rotate job#01j9zc3f5v\n  worldcompute store rotate\n  worldcompute store rotate --retire\n\nThe master key itself is never rotated."
)]
pub struct RotateArgs {
    /// The partition to give a new data key; without it the key that wraps data keys gets its next epoch
    pub partition: Option<String>,

    /// Wrap every data key under the new epoch now, and have older epochs refused for good
    #[arg(long, conflicts_with = "partition")]
    pub retire: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store erase job#01j9zc3f5v\n  worldcompute store erase job#01j9zc3f5v --yes --json > certificate.json"
)]
pub struct EraseArgs {
    /// The partition, as 'store verify --list' names it: kind#id
    pub partition: String,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  worldcompute store check-certificate certificate.json\n\nExit status: 0 erased and nothing since, 1 not, or not looked through."
)]
pub struct CertificateArgs {
    /// What 'store erase' printed
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute store seal --fresh /media/safe/umk.key\n  worldcompute store seal /media/safe/umk.key\n\nBLUE_KEYS=tpm2 has this node use it. The copy opens the store without the TPM: keep it where no machine reads it."
)]
pub struct SealArgs {
    /// The key in the clear: a file of 32 bytes and mode 0600, in a directory of mode 0700
    #[arg(value_name = "COPY", value_hint = ValueHint::FilePath)]
    pub copy: PathBuf,

    /// Make a key there first
    #[arg(long)]
    pub fresh: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  worldcompute store reseal\n\nBefore an update: --pcr0 3d45.. --pcr7 b5c0..\nWith the values that an update will bring the key opens before and after it. Without them it opens with those of now alone."
)]
pub struct ResealArgs {
    /// What PCR 0 will hold, SHA-256 bank: 64 hexadecimal digits
    #[arg(long, value_name = "HEX", requires = "pcr7")]
    pub pcr0: Option<Sha256>,

    /// What PCR 7 will hold
    #[arg(long, value_name = "HEX", requires = "pcr0")]
    pub pcr7: Option<Sha256>,
}

#[derive(Debug, Subcommand)]
pub enum DialogueCommand {
    /// Put a session into the store: a runpack, and what the gate decided in it
    #[command(
        after_help = "Example:\n  worldcompute store dialogue record runpack_run_demo.zip --trace trace.json\n\nAll of it is written, or nothing. What was asked and answered is sealed. Recording the same session again changes nothing."
    )]
    Record {
        /// The runpack
        #[arg(value_name = "RUNPACK", value_hint = ValueHint::FilePath)]
        runpack: PathBuf,

        /// The trace of a decision of the gate; may be given several times
        #[arg(long = "trace", value_name = "FILE", value_hint = ValueHint::FilePath)]
        traces: Vec<PathBuf>,

        /// The gate's record of the approvals for a decision; may be given several times
        #[arg(long = "approval-audit", value_name = "FILE", value_hint = ValueHint::FilePath)]
        approvals: Vec<PathBuf>,
    },
    /// The sessions in the store, without what was said in them
    #[command(after_help = "Example:\n  worldcompute store dialogue list --json")]
    List,
    /// Verify that a session is what was recorded, to the digest, and write its runpack
    #[command(
        after_help = "Example:\n  worldcompute store dialogue read run_demo --out run_demo.zip\n\nThe runpack is what was recorded, signatures included, or it is not written."
    )]
    Read {
        /// Which one, as 'list' shows it
        #[arg(value_name = "DIALOGUE")]
        dialogue: String,

        /// Where the runpack is written
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
}
