//! The donor always first: what shows that the owner of a machine wants it, and what then stands still.
//!
//! A [`Supervisor`] watches the machine on a thread of its own. When one of its [`Trigger`]s fires, it freezes every
//! sandbox that is registered ([`Freezable`]); where the trigger is one that asks for memory, it has them give theirs
//! back a moment later, which ends them. What was only frozen goes on where it was, once nothing has fired for a while.
//!
//! **Off the path of everything else.** From noticing a trigger to the last sandbox being told to stop, nothing is
//! allocated, nothing is asked of the network or of an async runtime, and no lock is held by anybody for longer than
//! it takes to register a sandbox.
//!
//! **Nothing is made up.** A sense that finds nothing to read here is told to be blind, and why ([`Sense`]).

mod host;
mod quiet_hours;
mod report;
mod sandboxes;
mod senses;
mod settings;
mod supervisor;
mod trigger;
mod warden;

pub use host::Roots;
pub use quiet_hours::QuietHours;
pub use report::{MAX_YIELDS, Report, Sense, Yield};
pub use sandboxes::{Freezable, Registered};
pub use settings::{MAX_QUIET_HOURS, MAX_RESUME_AFTER_S, Settings};
pub use supervisor::Supervisor;
pub use trigger::Trigger;
pub use warden::{RELEASE_AFTER, RELEASE_WITHIN};
