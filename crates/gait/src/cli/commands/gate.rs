//! `gait gate`.

mod eval;
mod explain;
mod inputs;
mod output;
mod settings;

pub use eval::EVAL;
