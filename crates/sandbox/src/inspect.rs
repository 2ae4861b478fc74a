//! A look at a workload before the compiler sees it.
//!
//! Compiling takes time and memory that grow faster than the module, in the size of one function and in its number of
//! locals most of all, and it cannot be stopped half-way. So both are bounded beforehand, whatever the total size.

use std::borrow::Cow;

use wasmparser::{FunctionBody, Parser, Payload};
use worldcompute_fault::{Fault, Result, WcCode};

/// Most bytes of a workload, as text or binary.
pub const MAX_WORKLOAD: usize = 32 << 20;
/// Most bytes of one function.
pub const MAX_FUNCTION: usize = 1 << 20;
/// Most functions.
pub const MAX_FUNCTIONS: usize = 200_000;
/// Most locals of all functions together.
pub const MAX_LOCALS: u64 = 4_000_000;
/// Most globals of one module: each instance carries all of them.
pub const MAX_GLOBALS: u32 = 20_000;
/// Most modules inside a component, at any depth.
pub const MAX_MODULES: usize = 64;

/// What kind of program the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Module,
    Component,
}

/// The binary form of a workload, and its kind.
///
/// # Errors
/// WC-001 for anything that is not WebAssembly, and past any of the limits.
pub fn inspect(workload: &[u8]) -> Result<(Kind, Cow<'_, [u8]>)> {
    if workload.len() > MAX_WORKLOAD {
        return Err(refuse(format!(
            "{} bytes, {MAX_WORKLOAD} is the most",
            workload.len()
        )));
    }
    let binary =
        wat::parse_bytes(workload).map_err(|error| refuse("not WebAssembly").caused_by(error))?;
    let kind = if Parser::is_component(&binary) {
        Kind::Component
    } else {
        Kind::Module
    };
    Tally::default().count(&binary)?;
    Ok((kind, binary))
}

#[derive(Default)]
struct Tally {
    functions: usize,
    locals: u64,
    modules: usize,
}

impl Tally {
    fn count(&mut self, binary: &[u8]) -> Result<()> {
        for payload in Parser::new(0).parse_all(binary) {
            match payload.map_err(|error| refuse("not WebAssembly").caused_by(error))? {
                Payload::CodeSectionEntry(body) => self.function(&body)?,
                Payload::GlobalSection(globals) => {
                    at_most(
                        "globals",
                        u64::from(globals.count()),
                        u64::from(MAX_GLOBALS),
                    )?;
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    self.modules += 1;
                    at_most("modules", self.modules as u64, MAX_MODULES as u64)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<()> {
        self.functions += 1;
        at_most("functions", self.functions as u64, MAX_FUNCTIONS as u64)?;
        at_most(
            "bytes of a function",
            body.range().len() as u64,
            MAX_FUNCTION as u64,
        )?;
        let locals = body.get_locals_reader();
        let locals = locals.map_err(|error| refuse("not WebAssembly").caused_by(error))?;
        for group in locals {
            let (count, _) = group.map_err(|error| refuse("not WebAssembly").caused_by(error))?;
            self.locals += u64::from(count);
            at_most("locals", self.locals, MAX_LOCALS)?;
        }
        Ok(())
    }
}

fn at_most(what: &str, actual: u64, most: u64) -> Result<()> {
    if actual <= most {
        Ok(())
    } else {
        Err(refuse(format!("{actual} {what}, {most} is the most")))
    }
}

fn refuse(why: impl std::fmt::Display) -> Fault {
    Fault::wc(
        WcCode::InvalidManifest,
        format!("the workload cannot be run: {why}"),
    )
    .hint("submit a WebAssembly module with WASI preview 1, or a component with WASI preview 2")
}
