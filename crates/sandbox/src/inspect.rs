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

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 128 {
            bytes.push(value as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn sized(head: &[u8], body: &[u8]) -> Vec<u8> {
        [head, &number(body.len()), body].concat()
    }

    fn section(id: u8, count: usize, entries: &[u8]) -> Vec<u8> {
        sized(&[id], &[&number(count), entries].concat())
    }

    /// A module with these functions, each a body after its size.
    fn with_functions(bodies: &[Vec<u8>]) -> Vec<u8> {
        let types = section(1, 1, &[0x60, 0, 0]);
        let functions = section(3, bodies.len(), &vec![0; bodies.len()]);
        let code: Vec<u8> = bodies.iter().flat_map(|body| sized(&[], body)).collect();
        [
            b"\0asm\x01\0\0\0".as_slice(),
            &types,
            &functions,
            &section(10, bodies.len(), &code),
        ]
        .concat()
    }

    fn locals(count: usize) -> Vec<u8> {
        [&[1], number(count).as_slice(), &[0x7f, 0x0b]].concat()
    }

    fn refused(binary: &[u8]) -> String {
        let fault = inspect(binary).err().unwrap();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
        fault.message().to_owned()
    }

    #[test]
    fn a_function_may_be_so_long_and_no_longer() {
        let body = |length: usize| [vec![0], vec![0x01; length - 2], vec![0x0b]].concat();
        inspect(&with_functions(&[body(MAX_FUNCTION)])).unwrap();
        assert!(
            refused(&with_functions(&[body(MAX_FUNCTION + 1)])).contains("bytes of a function")
        );
    }

    #[test]
    fn there_may_be_so_many_functions_and_no_more() {
        let empty = vec![0, 0x0b];
        inspect(&with_functions(&vec![empty.clone(); MAX_FUNCTIONS])).unwrap();
        assert!(refused(&with_functions(&vec![empty; MAX_FUNCTIONS + 1])).contains("functions"));
    }

    #[test]
    fn all_functions_together_may_have_so_many_locals_and_no_more() {
        let half = MAX_LOCALS as usize / 2;
        inspect(&with_functions(&[locals(half), locals(half)])).unwrap();
        assert!(refused(&with_functions(&[locals(half), locals(half + 1)])).contains("locals"));
    }

    #[test]
    fn there_may_be_so_many_globals_and_no_more() {
        let globals = |count: usize| {
            let entries = [0x7f, 0, 0x41, 0, 0x0b].repeat(count);
            [b"\0asm\x01\0\0\0".as_slice(), &section(6, count, &entries)].concat()
        };
        inspect(&globals(MAX_GLOBALS as usize)).unwrap();
        assert!(refused(&globals(MAX_GLOBALS as usize + 1)).contains("globals"));
    }

    #[test]
    fn a_component_may_hold_so_many_modules_and_no_more() {
        let component = |count: usize| format!("(component {})", "(core module) ".repeat(count));
        assert_eq!(
            inspect(component(MAX_MODULES).as_bytes()).unwrap().0,
            Kind::Component
        );
        assert!(refused(component(MAX_MODULES + 1).as_bytes()).contains("modules"));
    }

    #[test]
    fn limits_hold_inside_components_as_well() {
        let module = with_functions(&[locals(MAX_LOCALS as usize + 1)]);
        let component = [b"\0asm\x0d\0\x01\0".as_slice(), &sized(&[1], &module)].concat();
        assert!(refused(&component).contains("locals"));
    }

    #[test]
    fn text_and_binary_are_told_apart() {
        assert_eq!(inspect(b"(module)").unwrap().0, Kind::Module);
        assert_eq!(inspect(b"\0asm\x01\0\0\0").unwrap().0, Kind::Module);
        assert_eq!(inspect(b"(component)").unwrap().0, Kind::Component);
        refused(b"\xff\xfe(module)");
    }
}
