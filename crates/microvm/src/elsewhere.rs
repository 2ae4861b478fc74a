//! A machine on which there are no microVMs: not Linux, or not x86-64.

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;

use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Sha256;

use crate::{Backend, Config, Outcome, Report, Sink, Spec};

/// There is none.
#[derive(Clone, Debug)]
pub struct MicroVms(Infallible);

/// There is nothing to hold.
#[derive(Clone, Debug)]
pub struct Control(Infallible);

fn unsupported() -> Fault {
    Fault::wc(WcCode::UnsupportedPlatform, "microVMs take Linux on x86-64")
        .hint("run images on such a machine; WebAssembly runs here")
}

impl MicroVms {
    /// Whether there is something to try.
    pub const fn is_equipped(_: &Config) -> bool {
        false
    }

    /// # Errors
    /// WC-021.
    pub fn open(_: &Config, _: &Path) -> Result<Self> {
        Err(unsupported())
    }

    /// SHA-256 of the guests' kernel.
    pub const fn kernel_digest(&self) -> Sha256 {
        match self.0 {}
    }

    /// How hypervisors are confined.
    pub fn confinement(&self) -> String {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn survey(&self) -> Result<Vec<Report>> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn choose(&self) -> Result<Backend> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn run(
        &self,
        _: Backend,
        _: File,
        _: &Spec,
        _: &mut dyn Sink,
        _: &Control,
    ) -> Result<Outcome> {
        match self.0 {}
    }
}

impl Control {
    /// # Errors
    /// WC-021.
    pub fn new() -> Result<Self> {
        Err(unsupported())
    }

    /// Ends the run.
    pub fn cancel(&self) {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn freeze(&self) -> Result<()> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn resume(&self) -> Result<()> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn begin_freeze(&self) -> Result<()> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn stands_still(&self) -> Result<bool> {
        match self.0 {}
    }

    /// # Errors
    /// None is reached.
    pub fn wait_while_frozen(&self) -> Result<bool> {
        match self.0 {}
    }

    /// Whether the VM is frozen.
    pub fn is_frozen(&self) -> bool {
        match self.0 {}
    }
}
