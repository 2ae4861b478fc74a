//! `gait guard`.

mod pack;
mod retain;
mod seal;

pub use pack::{PACK, VERIFY};
pub(super) use pack::{SOURCE, guarded, unproven, warned};
pub use retain::RETAIN;
pub use seal::{DECRYPT, ENCRYPT};
