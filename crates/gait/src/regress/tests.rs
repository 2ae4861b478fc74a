//! Fixtures that pass, drift and lie.
