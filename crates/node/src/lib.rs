//! The daemon of World Compute, and what the command line needs to speak to it.
//!
//! ```text
//! command line ─► api::Client ─► control socket ─► Node ─┬─ Submitter ─► broker, store, evidence
//!                                                        ├─ Donor ─► gate, sandbox, receipts
//!                                        other nodes ◄─► └─ Mesh
//! ```

mod added;
pub mod api;
mod audit_watch;
mod bans;
mod blocking;
mod config;
mod daemon;
mod decisions;
pub mod diagnosis;
pub mod dialogue;
mod donor;
mod home;
mod images;
mod keep;
pub mod keys;
mod leave;
pub mod listen;
mod needed;
mod policies;
mod receipts;
mod relay_book;
mod serve;
mod served;
mod storage;
mod submitter;
mod views;
mod web;

pub use bans::MAX_REASON;
pub use blocking::blocking;
pub use blue_encrypted_store as store;
pub use config::{Config, DEFAULT_PORT, SEEDS_VARIABLE};
pub use daemon::{Node, NodeOptions, Roles, Running};
pub use donor::re_execute;
pub use home::{HOME_VARIABLE, Home, OpenHome};
pub use images::{ImageRequest, ImageSource, Images};
pub use leave::{Left, Residue, leave};
pub use storage::{SiteView, Storage, StoreSite, VARIABLES, is_absent, is_key_loss};
pub use worldcompute_durable as durable;
pub use worldcompute_image as image;
pub use worldcompute_ledger::receipt;
pub use worldcompute_microvm as microvm;
pub use worldcompute_scheduler::{evidence, manifest};
