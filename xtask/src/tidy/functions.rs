//! Functions that do not fit a page, and modules that do not say what they are.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Attribute, Block, Ident, Signature};

use super::Finding;
use super::files::TextFile;

/// From the line of `fn` to that of the closing brace.
pub const MAX_LINES: usize = 70;

/// Every function that is too long, and every Rust file without a `//!`. Of tests neither is asked.
pub fn find(files: &[&TextFile]) -> Vec<Finding> {
    let rust = || files.iter().filter(|file| file.path.ends_with(".rs"));
    let (parsed, broken): (Vec<_>, Vec<_>) = rust()
        .map(|file| (file, syn::parse_file(&file.text)))
        .partition(|(_, parsed)| parsed.is_ok());
    let mut findings: Vec<_> = broken
        .iter()
        .map(|(file, _)| finding(file, 1, "does not parse".to_owned()))
        .collect();
    let mut functions = Functions::default();
    for (file, parsed) in parsed
        .iter()
        .filter_map(|(file, parsed)| Some((file, parsed.as_ref().ok()?)))
    {
        functions.path.clone_from(&file.path);
        if !parsed
            .attrs
            .iter()
            .any(|attribute| attribute.path().is_ident("doc"))
        {
            functions.found.push(finding(
                file,
                1,
                "the module does not say what it is (`//!`)".to_owned(),
            ));
        }
        functions.visit_file(parsed);
    }
    let Functions { found, tests, .. } = functions;
    findings.extend(
        found
            .into_iter()
            .filter(|finding| !in_tests(&finding.path, &tests)),
    );
    findings
}

fn finding(file: &TextFile, line: usize, what: String) -> Finding {
    Finding {
        path: file.path.clone(),
        line,
        what,
    }
}

/// True for a file of a test module, or of a module below one.
fn in_tests(path: &str, tests: &BTreeSet<String>) -> bool {
    tests.iter().any(|module| {
        path.strip_prefix(module)
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

#[derive(Default)]
struct Functions {
    path: String,
    found: Vec<Finding>,
    /// Paths, without `.rs`, of test modules that stand in files of their own.
    tests: BTreeSet<String>,
}

impl Functions {
    fn measure(&mut self, signature: &Signature, body: &Block) {
        let first = signature.fn_token.span.start().line;
        let last = body.brace_token.span.close().end().line;
        let lines = last.saturating_sub(first).saturating_add(1);
        if lines > MAX_LINES {
            let what = format!(
                "`{}` has {lines} lines, more than {MAX_LINES}",
                signature.ident
            );
            self.found.push(Finding {
                path: self.path.clone(),
                line: first,
                what,
            });
        }
    }

    /// Where the module `name`, declared at the top of this file, has its own file.
    fn file_of(&self, name: &Ident) -> String {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        match file {
            "lib.rs" | "main.rs" | "mod.rs" => format!("{folder}/{name}"),
            _ => format!("{}/{name}", self.path.trim_end_matches(".rs")),
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        match &module.content {
            _ if !is_test(&module.attrs) => visit::visit_item_mod(self, module),
            Some(_) => {}
            None => {
                let path = self.file_of(&module.ident);
                self.tests.insert(path);
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            self.measure(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.measure(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(all(test, ..))]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_test = attribute
            .path()
            .segments
            .last()
            .is_some_and(|last| last.ident == "test");
        is_test || attribute.path().is_ident("cfg") && is_cfg_test(attribute)
    })
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    let Ok(list) = attribute.meta.require_list() else {
        return false;
    };
    let condition: String = list.tokens.to_string().split_whitespace().collect();
    condition == "test" || condition.starts_with("all(test,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, String)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| TextFile {
                path: (*path).to_owned(),
                text: text.clone(),
            })
            .collect();
        find(&files.iter().collect::<Vec<_>>())
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    /// A function of so many lines.
    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_at_the_limit_passes_and_one_line_more_does_not() {
        assert!(found(&[("a/src/lib.rs", format!("//! A.\n{}", function(70)))]).is_empty());
        let expected = ["a/src/lib.rs:2: `long` has 71 lines, more than 70"];
        assert_eq!(
            found(&[("a/src/lib.rs", format!("//! A.\n{}", function(71)))]),
            expected
        );
    }

    #[test]
    fn methods_defaults_and_functions_in_functions_count_and_their_comments_do_not() {
        let long = function(71);
        for (line, text) in [
            (3, format!("struct S; impl S {{\n{long}}}")),
            (3, format!("trait T {{\n{long}}}")),
            (3, format!("mod inner {{\n{long}}}")),
            (5, format!("mod inner {{\n/// {}\n#[inline]\n{long}}}", "x")),
        ] {
            let expected = format!("a/src/b.rs:{line}: `long` has 71 lines, more than 70");
            assert_eq!(
                found(&[("a/src/b.rs", format!("//! A.\n{text}"))]),
                [expected]
            );
        }
        let nested = format!("//! A.\nfn outer() {{\n{long}}}\n");
        assert_eq!(found(&[("a/src/b.rs", nested)]).len(), 2);
    }

    #[test]
    fn tests_may_be_long_and_say_nothing_also_in_files_of_their_own() {
        let long = function(99);
        let inline = format!(
            "//! A.\n#[test]\n{long}#[tokio::test]\nasync {long}#[cfg(test)]\nmod tests {{\n{long}}}\n"
        );
        assert!(found(&[("a/src/lib.rs", inline)]).is_empty());
        let declared =
            "//! A.\n#[cfg(test)]\nmod attacks;\n#[cfg(all(test, unix))]\nmod more;\n".to_owned();
        let file = format!("// No word about itself.\n{long}");
        assert!(
            found(&[
                ("a/src/lib.rs", declared.clone()),
                ("a/src/attacks.rs", file.clone())
            ])
            .is_empty()
        );
        assert!(
            found(&[
                ("a/src/b.rs", declared.clone()),
                ("a/src/b/attacks/c.rs", file.clone())
            ])
            .is_empty()
        );
        assert!(
            found(&[
                ("a/src/b.rs", declared.clone()),
                ("a/src/b/more/mod.rs", file.clone())
            ])
            .is_empty()
        );
        assert_eq!(
            found(&[
                ("a/src/b.rs", declared.clone()),
                ("a/src/attacks.rs", file.clone())
            ])
            .len(),
            2
        );
        assert_eq!(
            found(&[("a/src/lib.rs", declared), ("a/src/attacks_too.rs", file)]).len(),
            2
        );
    }

    #[test]
    fn what_is_built_with_a_feature_is_no_test() {
        let text = format!(
            "//! A.\n#[cfg(any(test, feature = \"x\"))]\n{}",
            function(71)
        );
        assert_eq!(found(&[("a/src/lib.rs", text)]).len(), 1);
    }

    #[test]
    fn a_module_without_a_word_about_itself_is_found() {
        let expected = ["a/src/lib.rs:1: the module does not say what it is (`//!`)"];
        assert_eq!(
            found(&[(
                "a/src/lib.rs",
                "/// Not of the module.\nfn f() {}\n".to_owned()
            )]),
            expected
        );
        assert!(found(&[("a/src/lib.rs", "// Licence\n\n//! A.\n".to_owned())]).is_empty());
    }

    #[test]
    fn a_file_that_does_not_parse_is_found() {
        assert_eq!(
            found(&[("a/src/lib.rs", "//! A.\nfn {".to_owned())]),
            ["a/src/lib.rs:1: does not parse"]
        );
        assert!(found(&[("a/src/notes.txt", "fn {".to_owned())]).is_empty());
    }
}
