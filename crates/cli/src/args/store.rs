//! The grammar of `worldcompute store`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Make this node's store: identity, master key, and the table if it is in the home
    #[command(
        after_help = "Example:\n  worldcompute store init\n\nWhere the store's key is lost and a person answers, it asks whether to reset the database."
    )]
    Init,
    /// Make table and store where the environment says: once for each table outside of this machine
    #[command(
        after_help = "Examples:\n  worldcompute store setup-tables\n  worldcompute store setup-tables --json\n\nDYNAMODB_ENDPOINT, BLUE_PROFILE and BLUE_TABLE say where; its id goes into BLUE_STORE_ID of every process."
    )]
    SetupTables,
    /// Where the store is, and how it stands
    #[command(after_help = "Example:\n  worldcompute store status --json")]
    Status,
    /// Look through the whole store: name every item that is not what was written
    #[command(
        after_help = "Example:\n  worldcompute store verify\n\nExit status: 0 sound, 1 not, or not looked through."
    )]
    Verify,
    /// Verify the record of every use of the store's keys
    #[command(
        after_help = "Example:\n  worldcompute store verify-chain\n\nExit status: 0 whole, 1 broken, or not looked through."
    )]
    VerifyChain,
}
