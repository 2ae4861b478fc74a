//! A look at a workload before the compiler sees it.
//!
//! Compiling cannot be stopped half-way, and what it takes can grow much faster than the module: a few kilobytes of
//! the wrong shape keep it busy for minutes. So the shape is bounded beforehand: how many functions there are, how
//! long each is, how many locals they have, and how often the values of those locals meet again where control flow
//! does, which is what the compiler's time and memory are quadratic in. The compiler also writes code for each
//! signature, called or not, for each function that crosses the border of a component, and for all that a module holds
//! before it starts: they count as well.

mod initial;
mod layout;

use std::borrow::Cow;

use wasmparser::{BlockType, Encoding, FuncType, FunctionBody, Operator, Parser, Payload};
use worldcompute_fault::{Fault, Result, WcCode};

use initial::Initial;
pub use initial::{
    MAX_ELEMENTS, MAX_IMAGES, MAX_INITIAL_VALUES, MAX_SCATTERED_DATA, MAX_TABLE_ELEMENTS,
};

/// Most bytes of a workload.
pub const MAX_WORKLOAD: usize = 32 << 20;
/// Most bytes of a workload in its text form, which takes a hundred times as much memory to read.
pub const MAX_WORKLOAD_TEXT: usize = 1 << 20;
/// Most bytes of one function.
pub const MAX_FUNCTION: usize = 1 << 20;
/// Most functions.
pub const MAX_FUNCTIONS: usize = 50_000;
/// Most locals of all functions together.
pub const MAX_LOCALS: u64 = 4_000_000;
/// Most meetings of values of all functions together: the locals of a function, and what its blocks carry besides,
/// times its branches. Functions with up to [`SMALL_FUNCTION`] do not count.
pub const MAX_MEETINGS: u64 = 8_000_000;
/// Meetings of a function that is compiled in no time.
pub const SMALL_FUNCTION: u64 = 1 << 16;
/// Most pairs of loops of all functions together: the compiler holds each loop of a function against every other.
/// Functions with up to [`SMALL_FUNCTION`] do not count.
pub const MAX_LOOP_PAIRS: u64 = 100_000_000;
/// Most signatures of all modules together: each is compiled to a way out of the module.
pub const MAX_SIGNATURES: usize = 10_000;
/// Most parameters and results of all signatures together.
pub const MAX_SIGNATURE_VALUES: u64 = 100_000;
/// Most functions that cross the border of a component, at any depth: each is compiled to an adapter.
pub const MAX_ADAPTERS: u64 = 10_000;
/// Most bytes of all types of a component, at any depth: adapters go through them field by field.
pub const MAX_COMPONENT_TYPES: u64 = 1 << 20;
/// Most globals of one module: each instance carries all of them.
pub const MAX_GLOBALS: u32 = 20_000;
/// Most imports of one module: each instance carries all of them, and each is looked up.
pub const MAX_IMPORTS: u32 = 10_000;
/// Most characters of an error that may quote the workload.
const MAX_QUOTE: usize = 300;
/// Most modules inside a component, at any depth.
pub const MAX_MODULES: usize = 64;

/// What kind of program the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Module,
    Component,
}

/// Whether bytes could be a workload at all: WebAssembly, in text or binary form, within every limit on its size and
/// shape. Nothing is compiled, and what it imports is not looked at.
///
/// # Errors
/// WC-001 that says what is wrong with them.
pub fn check_workload(bytes: &[u8]) -> Result<()> {
    inspect(bytes).map(|_| ())
}

/// The binary form of a workload, and its kind.
///
/// # Errors
/// WC-001 for anything that is not WebAssembly, and past any of the limits.
pub fn inspect(workload: &[u8]) -> Result<(Kind, Cow<'_, [u8]>)> {
    let is_text = !workload.starts_with(b"\0asm");
    let most = if is_text {
        MAX_WORKLOAD_TEXT
    } else {
        MAX_WORKLOAD
    };
    at_most("bytes", workload.len() as u64, most as u64)?;
    let binary = wat::parse_bytes(workload).map_err(|error| refuse(brief(&error)))?;
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
    meetings: u64,
    loop_pairs: u64,
    modules: usize,
    signatures: usize,
    signature_values: u64,
    adapters: u64,
    component_types: u64,
    initial: Initial,
    current: Signatures,
}

/// The types of the module at hand, as far as they matter here.
#[derive(Default)]
struct Signatures {
    types: Vec<Arity>,
    of_functions: std::vec::IntoIter<Arity>,
}

#[derive(Clone, Copy, Default)]
struct Arity {
    parameters: u64,
    results: u64,
}

/// How control flows in a function.
struct Flow {
    /// Places where it parts or comes together.
    branches: u64,
    /// The most values any of them carries besides locals: the end of the function is one, and carries its results.
    carried: u64,
    loops: u64,
}

impl Tally {
    fn count(&mut self, binary: &[u8]) -> Result<()> {
        for payload in Parser::new(0).parse_all(binary) {
            self.section(payload.map_err(malformed)?)?;
        }
        Ok(())
    }

    fn section(&mut self, payload: Payload<'_>) -> Result<()> {
        self.initial.count(&payload)?;
        match payload {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => self.current = Signatures::default(),
            Payload::TypeSection(types) => {
                for function in types.into_iter_err_on_gc_types() {
                    self.signature(Arity::of(&function.map_err(malformed)?))?;
                }
            }
            Payload::FunctionSection(functions) => {
                let functions = functions
                    .into_iter()
                    .map(|index| Ok(self.current.arity(index?)));
                let functions: Vec<_> = functions.collect::<Result<_, _>>().map_err(malformed)?;
                self.current.of_functions = functions.into_iter();
            }
            Payload::CodeSectionEntry(body) => self.function(&body)?,
            Payload::GlobalSection(globals) => {
                at_most(
                    "globals",
                    u64::from(globals.count()),
                    u64::from(MAX_GLOBALS),
                )?;
            }
            Payload::ImportSection(imports) => {
                at_most(
                    "imports",
                    u64::from(imports.count()),
                    u64::from(MAX_IMPORTS),
                )?;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.modules += 1;
                at_most("modules", self.modules as u64, MAX_MODULES as u64)?;
            }
            Payload::ComponentCanonicalSection(functions) => {
                self.adapters += u64::from(functions.count());
                at_most("adapted functions", self.adapters, MAX_ADAPTERS)?;
            }
            Payload::ComponentTypeSection(types) => {
                self.component_types += types.range().len() as u64;
                let most = MAX_COMPONENT_TYPES;
                at_most("bytes of component types", self.component_types, most)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn signature(&mut self, arity: Arity) -> Result<()> {
        self.signatures += 1;
        self.signature_values += arity.parameters + arity.results;
        self.current.types.push(arity);
        at_most("signatures", self.signatures as u64, MAX_SIGNATURES as u64)?;
        let values = self.signature_values;
        at_most("values of signatures", values, MAX_SIGNATURE_VALUES)
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<()> {
        self.functions += 1;
        at_most("functions", self.functions as u64, MAX_FUNCTIONS as u64)?;
        at_most(
            "bytes of a function",
            body.range().len() as u64,
            MAX_FUNCTION as u64,
        )?;
        let arity = self.current.of_functions.next().unwrap_or_default();
        let mut locals = arity.parameters;
        for group in body.get_locals_reader().map_err(malformed)? {
            locals += u64::from(group.map_err(malformed)?.0);
        }
        self.locals += locals;
        at_most("locals", self.locals, MAX_LOCALS)?;
        let flow = self.current.flow(body, arity.results)?;
        let meetings = flow
            .branches
            .saturating_mul(locals.saturating_add(flow.carried));
        self.meetings = self.meetings.saturating_add(unless_small(meetings));
        at_most("meetings of values", self.meetings, MAX_MEETINGS)?;
        let pairs = flow.loops.saturating_mul(flow.loops);
        self.loop_pairs = self.loop_pairs.saturating_add(unless_small(pairs));
        at_most("pairs of loops", self.loop_pairs, MAX_LOOP_PAIRS)
    }
}

impl Signatures {
    fn arity(&self, index: u32) -> Arity {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn flow(&self, body: &FunctionBody<'_>, results: u64) -> Result<Flow> {
        let (mut branches, mut carried, mut loops) = (0, results, 0);
        let mut operators = body.get_operators_reader().map_err(malformed)?;
        while !operators.eof() {
            match operators.read().map_err(malformed)? {
                Operator::Loop { blockty } => {
                    branches += 1;
                    loops += 1;
                    carried = carried.max(self.carried_by(blockty));
                }
                Operator::Block { blockty } | Operator::If { blockty } => {
                    branches += 1;
                    carried = carried.max(self.carried_by(blockty));
                }
                Operator::TryTable { try_table } => {
                    branches += 1 + try_table.catches.len() as u64;
                    carried = carried.max(self.carried_by(try_table.ty));
                }
                Operator::BrTable { targets } => branches += 1 + u64::from(targets.len()),
                Operator::Else
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. } => branches += 1,
                _ => {}
            }
        }
        Ok(Flow {
            branches,
            carried,
            loops,
        })
    }

    fn carried_by(&self, block: BlockType) -> u64 {
        match block {
            BlockType::FuncType(index) => {
                let arity = self.arity(index);
                arity.parameters + arity.results
            }
            BlockType::Empty | BlockType::Type(_) => 0,
        }
    }
}

impl Arity {
    fn of(function: &FuncType) -> Self {
        Self {
            parameters: function.params().len() as u64,
            results: function.results().len() as u64,
        }
    }
}

/// The beginning of what an error says, which may quote the workload at any length.
pub fn brief(error: &impl std::fmt::Display) -> String {
    let text = format!("{error:#}");
    let printable = text
        .chars()
        .take(MAX_QUOTE)
        .map(|c| if c.is_control() { ' ' } else { c });
    printable.collect()
}

const fn unless_small(count: u64) -> u64 {
    if count > SMALL_FUNCTION { count } else { 0 }
}

fn malformed(error: wasmparser::BinaryReaderError) -> Fault {
    refuse(brief(&error))
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
    fn the_locals_of_large_functions_may_meet_so_often_and_no_more() {
        // Parameters count as locals do.
        let function = |locals: usize, blocks: usize| {
            let blocks = [0x02, 0x40, 0x0b].repeat(blocks);
            [&[1], number(locals).as_slice(), &[0x7f], &blocks, &[0x0b]].concat()
        };
        inspect(&with_functions(&[
            function(4000, 1000),
            function(2000, 2000),
        ]))
        .unwrap();
        inspect(&with_functions(&vec![function(256, 256); 1000])).unwrap();
        for past in [function(4001, 1000), function(2000, 2001)] {
            let past = with_functions(&[function(4000, 1000), past]);
            assert!(refused(&past).contains("meetings"));
        }
    }

    #[test]
    fn so_many_loops_may_be_held_against_each_other_and_no_more() {
        let loops = |count: usize| [vec![0], [0x03, 0x40, 0x0b].repeat(count), vec![0x0b]].concat();
        let nested =
            |count: usize| [vec![0], [0x03, 0x40].repeat(count), vec![0x0b; count + 1]].concat();
        for large in [loops(10_000), nested(10_000)] {
            inspect(&with_functions(&[large.clone(), loops(256), loops(256)])).unwrap();
            let past = with_functions(&[large, loops(257)]);
            assert!(refused(&past).contains("pairs of loops"));
        }
        assert!(refused(&with_functions(&[nested(10_001)])).contains("pairs of loops"));
    }

    #[test]
    fn parameters_meet_as_other_locals_do() {
        let with = |parameters: usize| {
            let text = "(param i32)".repeat(parameters);
            let body = "(block)".repeat(10_000);
            let module = format!("(module (func {text} {body}))");
            inspect(module.as_bytes()).map(|(kind, _)| kind)
        };
        with(800).unwrap();
        assert!(with(801).unwrap_err().message().contains("meetings"));
    }

    #[test]
    fn what_blocks_carry_meets_as_locals_do() {
        let with = |values: usize| {
            let carried = format!("(result{})", " i32".repeat(values));
            let body = format!(
                "(block $b {carried} {} (br $b))",
                "(br_if $b (i32.const 0))".repeat(9998)
            );
            let start = "(i32.const 0)".repeat(values);
            let module = format!("(module (func {carried} {start} unreachable {body}))");
            inspect(module.as_bytes()).map(|(kind, _)| kind)
        };
        with(800).unwrap();
        assert!(with(801).unwrap_err().message().contains("meetings"));
    }

    #[test]
    fn what_the_end_of_a_function_carries_meets_as_locals_do() {
        let with = |results: usize| {
            let carried = format!("(result{})", " i32".repeat(results));
            let branch = "(br_if 0 (i32.const 0))".repeat(10_000);
            let start = "(i32.const 0)".repeat(results);
            let module = format!("(module (func {carried} {start} {branch}))");
            inspect(module.as_bytes()).map(|(kind, _)| kind)
        };
        with(800).unwrap();
        assert!(with(801).unwrap_err().message().contains("meetings"));
    }

    #[test]
    fn branches_on_references_count_as_others_do() {
        let with = |branch: &str, branches: usize| {
            let locals = "i32 ".repeat(1000);
            let branches = branch.repeat(branches);
            let module = format!("(module (func (local {locals}) (block {branches})))");
            inspect(module.as_bytes()).map(|(kind, _)| kind)
        };
        for branch in [
            "(drop (br_on_null 0 (ref.null func)))",
            "(br_on_non_null 0 (ref.null func))",
            "(drop (br_on_cast 0 funcref (ref func) (ref.null func)))",
            "(drop (br_on_cast_fail 0 funcref (ref func) (ref.null func)))",
            "(try_table (catch_all 0))",
        ] {
            let each = if branch.starts_with("(try") { 2 } else { 1 };
            with(branch, 7998 / each).unwrap();
            let past = with(branch, 8000 / each).unwrap_err();
            assert!(past.message().contains("meetings"), "{branch}: {past}");
        }
    }

    #[test]
    fn there_may_be_so_many_signatures_and_no_more() {
        let with = |signatures: usize, parameters: usize| {
            let parameters = format!("(param{})", " i32".repeat(parameters));
            let signatures = format!("(type (func {parameters}))").repeat(signatures);
            let binary = wat::parse_str(format!("(module {signatures})")).unwrap();
            inspect(&binary).map(|(kind, _)| kind)
        };
        with(MAX_SIGNATURES, 1).unwrap();
        let past = with(MAX_SIGNATURES + 1, 1).unwrap_err();
        assert!(past.message().contains("signatures"), "{past}");
        with(100, 1000).unwrap();
        let past = with(101, 1000).unwrap_err();
        assert!(past.message().contains("values of signatures"), "{past}");
    }

    #[test]
    fn so_many_functions_may_cross_the_border_of_a_component_and_no_more() {
        let with = |functions: u64| {
            let lowered = "(core func (canon lower (func $f)))".repeat(functions as usize);
            let component = format!("(component (import \"f\" (func $f)) {lowered})");
            let binary = wat::parse_str(component).unwrap();
            inspect(&binary).map(|(kind, _)| kind)
        };
        with(MAX_ADAPTERS).unwrap();
        let past = with(MAX_ADAPTERS + 1).unwrap_err();
        assert!(past.message().contains("adapted functions"), "{past}");
    }

    #[test]
    fn the_types_of_a_component_may_have_so_many_bytes_and_no_more() {
        let with = |bytes: usize| {
            // A section is the number of its types, and here one enumeration with one long name.
            let name = "n".repeat(bytes - 9);
            let component = format!("(component (type (enum \"{name}\")))");
            let binary = wat::parse_str(component).unwrap();
            inspect(&binary).map(|(kind, _)| kind)
        };
        with(1000).unwrap();
        let most = MAX_COMPONENT_TYPES as usize;
        let past = with(most + 100).unwrap_err();
        assert!(past.message().contains("component types"), "{past}");
    }

    #[test]
    fn every_target_of_a_table_of_branches_counts() {
        let text = |targets: usize| {
            let table = "0 ".repeat(targets);
            format!(
                "(module (func (local {}) (br_table {table} (i32.const 0))))",
                "i32 ".repeat(1000)
            )
        };
        inspect(text(8000).as_bytes()).unwrap();
        assert!(
            inspect(text(8001).as_bytes())
                .unwrap_err()
                .message()
                .contains("meetings")
        );
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
    fn there_may_be_so_many_imports_and_no_more() {
        let imports = |count: usize| {
            let import = b"\x01m\x01f\x00\x00".repeat(count);
            let types = section(1, 1, &[0x60, 0, 0]);
            [
                b"\0asm\x01\0\0\0".as_slice(),
                &types,
                &section(2, count, &import),
            ]
            .concat()
        };
        inspect(&imports(MAX_IMPORTS as usize)).unwrap();
        assert!(refused(&imports(MAX_IMPORTS as usize + 1)).contains("imports"));
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
    fn a_workload_can_be_checked_without_a_sandbox() {
        check_workload(b"(module)").unwrap();
        assert_eq!(
            check_workload(b"#!/bin/sh").unwrap_err().number(),
            Some(WcCode::InvalidManifest)
        );
    }

    #[test]
    fn text_and_binary_are_told_apart() {
        assert_eq!(inspect(b"(module)").unwrap().0, Kind::Module);
        assert_eq!(inspect(b"\0asm\x01\0\0\0").unwrap().0, Kind::Module);
        assert_eq!(inspect(b"(component)").unwrap().0, Kind::Component);
        refused(b"\xff\xfe(module)");
    }
}
