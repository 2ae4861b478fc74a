//! What a module holds before its first instruction: filled tables, globals and memories.
//!
//! The compiler makes one function of all of it, which is longer by far than what it is made of: thirty-two megabytes
//! of indices kept it busy until there was no memory left. What it lays out beforehand it keeps beside the code: a
//! table of a million elements takes a few bytes of the module and four megabytes there, and so do two bytes of data
//! that lie far apart.

use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, Encoding, Payload, SectionLimited, TypeRef,
};
use worldcompute_fault::Result;

use super::layout::Layout;
use super::{at_most, malformed};

/// Most elements of all segments together: each is compiled to its own way into a table.
pub const MAX_ELEMENTS: u64 = 50_000;
/// Most elements that all tables together may have from the start.
pub const MAX_TABLE_ELEMENTS: u64 = 1 << 20;
/// Most segments of data of all modules together that are not laid out beforehand: each is compiled to a copy of its
/// own.
pub const MAX_SCATTERED_DATA: u64 = 2000;
/// Most bytes of all images of memories that are laid out beforehand, the gaps between data included.
pub const MAX_IMAGES: u64 = 64 << 20;
/// Most bytes of all that says what globals, tables and segments begin as: as many as one function may have, since it
/// is compiled as one.
pub const MAX_INITIAL_VALUES: u64 = super::MAX_FUNCTION as u64;

/// A running count over all modules of a workload.
#[derive(Default)]
pub struct Initial {
    elements: u64,
    table_elements: u64,
    scattered_data: u64,
    image_bytes: u64,
    value_bytes: u64,
    layout: Layout,
}

impl Initial {
    /// Counts what a section adds; most add nothing.
    ///
    /// # Errors
    /// WC-001 past a limit, and for a section that is malformed.
    pub fn count(&mut self, payload: &Payload<'_>) -> Result<()> {
        match payload {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => {
                self.layout = Layout::default();
                Ok(())
            }
            Payload::ImportSection(imports) => self.imports(imports),
            Payload::MemorySection(memories) => self.memories(memories),
            Payload::GlobalSection(globals) => self.values(globals.range().len()),
            Payload::TableSection(tables) => self.tables(tables),
            Payload::ElementSection(segments) => self.elements(segments),
            Payload::DataSection(segments) => self.data(segments),
            _ => Ok(()),
        }
    }

    fn tables(&mut self, tables: &SectionLimited<'_, wasmparser::Table<'_>>) -> Result<()> {
        self.values(tables.range().len())?;
        for table in tables.clone() {
            let born = table.map_err(malformed)?.ty.initial;
            self.table_elements = self.table_elements.saturating_add(born);
        }
        let most = MAX_TABLE_ELEMENTS;
        at_most("elements of new tables", self.table_elements, most)
    }

    fn elements(&mut self, segments: &SectionLimited<'_, wasmparser::Element<'_>>) -> Result<()> {
        self.values(segments.range().len())?;
        for segment in segments.clone() {
            let segment = segment.map_err(malformed)?;
            // What is only declared is compiled to nothing.
            if !matches!(segment.kind, ElementKind::Declared) {
                self.elements += u64::from(match segment.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                });
            }
        }
        at_most("elements of segments", self.elements, MAX_ELEMENTS)
    }

    fn imports(&mut self, imports: &SectionLimited<'_, wasmparser::Imports<'_>>) -> Result<()> {
        for import in imports.clone().into_imports() {
            if let TypeRef::Memory(_) = import.map_err(malformed)?.ty {
                self.layout.import();
            }
        }
        Ok(())
    }

    fn memories(&mut self, memories: &SectionLimited<'_, wasmparser::MemoryType>) -> Result<()> {
        for memory in memories.clone() {
            self.layout.define(&memory.map_err(malformed)?);
        }
        Ok(())
    }

    fn data(&mut self, segments: &SectionLimited<'_, wasmparser::Data<'_>>) -> Result<()> {
        for segment in segments.clone() {
            let segment = segment.map_err(malformed)?;
            if let DataKind::Active { offset_expr, .. } = &segment.kind {
                self.values(length(offset_expr))?;
            }
            self.layout.place(&segment);
        }
        let (scattered, images) = self.layout.cost();
        self.scattered_data += scattered;
        self.image_bytes = self.image_bytes.saturating_add(images);
        let most = MAX_SCATTERED_DATA;
        at_most("scattered segments of data", self.scattered_data, most)?;
        at_most("bytes of images of memories", self.image_bytes, MAX_IMAGES)
    }

    fn values(&mut self, bytes: usize) -> Result<()> {
        self.value_bytes += bytes as u64;
        at_most(
            "bytes of initial values",
            self.value_bytes,
            MAX_INITIAL_VALUES,
        )
    }
}

fn length(expression: &ConstExpr<'_>) -> usize {
    expression.get_binary_reader().range().len()
}

#[cfg(test)]
mod tests {
    use super::super::inspect;
    use super::*;

    /// A module, made binary first: its text may have fewer bytes than these need.
    fn check(parts: &str) -> Result<()> {
        let binary = wat::parse_str(format!("(module {parts})")).unwrap();
        inspect(&binary).map(|_| ())
    }

    #[track_caller]
    fn refused(parts: &str, why: &str) {
        let fault = check(parts).unwrap_err();
        assert!(fault.message().contains(why), "{fault}");
    }

    #[test]
    fn segments_may_have_so_many_elements_and_no_more() {
        let most = MAX_ELEMENTS as usize;
        let functions = |count: usize| " $f".repeat(count);
        let nulls = |count: usize| "(ref.null func)".repeat(count);
        let with = |segment: String| format!("(table 1 funcref) (func $f) {segment}");
        for segment in [
            |items: &str| format!("(elem func {items})"),
            |items: &str| format!("(elem (i32.const 0) func {items})"),
        ] {
            check(&with(segment(&functions(most)))).unwrap();
            refused(&with(segment(&functions(most + 1))), "elements of segments");
        }
        check(&with(format!("(elem funcref {})", nulls(most)))).unwrap();
        let past = with(format!("(elem funcref {})", nulls(most + 1)));
        refused(&past, "elements of segments");
    }

    #[test]
    fn what_is_only_declared_is_no_element_but_has_bytes() {
        let declared =
            |count: usize| format!("(func $f) (elem declare func{})", " $f".repeat(count));
        check(&declared(MAX_ELEMENTS as usize + 1)).unwrap();
        let past = declared(MAX_INITIAL_VALUES as usize);
        refused(&past, "bytes of initial values");
    }

    #[test]
    fn tables_may_be_born_with_so_many_elements_together_and_no_more() {
        let half = MAX_TABLE_ELEMENTS / 2;
        let tables = |more: u64| {
            format!(
                "(table {half} funcref) (table i64 {} externref)",
                half + more
            )
        };
        check(&tables(0)).unwrap();
        refused(&tables(1), "elements of new tables");
        let endless = format!("(table i64 {} funcref)", u64::MAX);
        refused(&endless.repeat(2), "elements of new tables");
    }

    #[test]
    fn so_many_segments_may_be_scattered_and_no_more() {
        let most = MAX_SCATTERED_DATA as usize;
        // At no plain number, past the end of the memory, in no memory of its own, and too far from each other.
        for (before, segment, more) in [
            (
                "(memory 1)",
                "(data (offset i32.const 1 i32.const 0 i32.add) \"x\")",
                "",
            ),
            ("(memory 1)", "(data (i32.const 65536) \"x\")", ""),
            (
                "(import \"m\" \"m\" (memory 1))",
                "(data (i32.const 0) \"x\")",
                "",
            ),
            (
                "(memory 300)",
                "(data (i32.const 0) \"x\")",
                "(data (i32.const 19000000) \"x\")",
            ),
        ] {
            let with = |count: usize| format!("{before} {more} {}", segment.repeat(count));
            let most = most - usize::from(!more.is_empty());
            check(&with(most)).unwrap();
            refused(&with(most + 1), "scattered segments");
        }
    }

    #[test]
    fn what_is_laid_out_beforehand_may_come_in_as_many_segments_as_it_likes() {
        let segment = |at: u64| format!("(data (i32.const {}) \"12345678\")", at * 17);
        let segments: String = (0..50_000).map(segment).collect();
        check(&format!("(memory 15) {segments}")).unwrap();
    }

    #[test]
    fn images_of_memories_may_have_so_many_bytes_together_and_no_more() {
        let memory = "(memory 200)";
        let data = |memory: u64| {
            let far = MAX_IMAGES / 8 - 1;
            format!(
                "(data (memory {memory}) (i32.const 0) \"x\") (data (memory {memory}) (i32.const {far}) \"x\")"
            )
        };
        let with =
            |count: u64| memory.repeat(count as usize) + &(0..count).map(data).collect::<String>();
        check(&with(8)).unwrap();
        refused(&with(9), "images of memories");
    }

    #[test]
    fn what_globals_and_segments_begin_as_may_have_so_many_bytes_and_no_more() {
        // A sum of n constants has 3n - 1 bytes.
        let sum =
            |terms: usize| format!("i32.const 0 {}", "i32.const 0 i32.add ".repeat(terms - 1));
        let terms = MAX_INITIAL_VALUES as usize / 3;
        for part in [
            |value: String| format!("(global i32 {value})"),
            |value: String| format!("(memory 1) (data (offset {value}) \"\")"),
            |value: String| format!("(table 1 funcref) (elem (offset {value}) func)"),
        ] {
            check(&part(sum(terms - 10))).unwrap();
            refused(&part(sum(terms + 10)), "bytes of initial values");
        }
    }

    #[test]
    fn all_modules_of_a_component_count_together() {
        let half = MAX_TABLE_ELEMENTS / 2 + 1;
        let module = format!("(core module (table {half} funcref))");
        let component = |count: usize| format!("(component {})", module.repeat(count));
        inspect(component(1).as_bytes()).unwrap();
        let past = component(2);
        let fault = inspect(past.as_bytes()).unwrap_err();
        assert!(
            fault.message().contains("elements of new tables"),
            "{fault}"
        );
    }
}
