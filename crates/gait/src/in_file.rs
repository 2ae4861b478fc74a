//! What is wrong with a file is said of the file: readers of bytes do not know where the bytes are from.

use std::path::Path;

use worldcompute_fault::{Fault, Result};

/// Says of which file a fault is.
pub trait InFile {
    /// The same; a fault begins with `path`, unless its message has it already.
    #[must_use]
    fn in_file(self, path: &Path) -> Self;
}

impl<T> InFile for Result<T> {
    fn in_file(self, path: &Path) -> Self {
        self.map_err(|fault| fault.in_file(path))
    }
}

impl InFile for Fault {
    fn in_file(self, path: &Path) -> Self {
        let shown = path.display().to_string();
        let message = self.message();
        match message.starts_with(&shown) || message.contains(&format!(" {shown}:")) {
            true => self,
            false => retold(&self, format!("{shown}: {}", self.message())),
        }
    }
}

/// The fault with another message.
fn retold(fault: &Fault, message: String) -> Fault {
    let code = fault.code().to_owned();
    let mut named = Fault::new(fault.category(), code, message).hint(fault.hint_text().to_owned());
    if !fault.reason().is_empty() {
        named = named.because(fault.reason(), fault.remedy());
    }
    match fault.migration() {
        Some(migration) => named.migrated(migration.clone()),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use worldcompute_fault::{Category, Migration};

    use super::*;

    #[test]
    fn a_fault_names_its_file_once_and_stays_what_it_was() {
        let migration = Migration::Command {
            deprecated_command: "a",
            replacement_command: "b",
        };
        let fault = Fault::new(Category::StateContention, "held", "not read")
            .hint("look")
            .because("why", "do")
            .migrated(migration);
        let named = fault.clone().in_file(Path::new("a/b.json"));
        assert_eq!(named.message(), "a/b.json: not read");
        assert_eq!(retold(&named, "not read".to_owned()), fault);
        assert_eq!(named.clone().in_file(Path::new("a/b.json")), named);
        let word = Fault::new(Category::InvalidInput, "wrong", "the file is wrong");
        assert_eq!(
            word.in_file(Path::new("file")).message(),
            "file: the file is wrong"
        );
    }
}
