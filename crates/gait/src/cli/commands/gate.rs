//! `gait gate`.

mod eval;
mod explain;
mod inputs;
mod output;
mod serve;
mod settings;
mod setup;

pub use eval::EVAL;
pub use serve::SERVE;
