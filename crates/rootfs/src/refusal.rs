//! What is said to a layer that cannot be used.

use std::fmt::Display;

use worldcompute_fault::{Category, Fault};

/// How much of a name an error shows.
const MAX_SHOWN: usize = 256;

/// A refusal of what a layer holds, with a code of its own.
pub(crate) fn refuse(code: &'static str, message: impl Into<String>, hint: &'static str) -> Fault {
    Fault::new(Category::InvalidInput, code, message).hint(hint)
}

/// The same fault, naming the layer.
pub(crate) fn in_layer(layer: impl Display, fault: &Fault) -> Fault {
    let message = format!("layer {layer}: {}", fault.message());
    Fault::new(fault.category(), fault.code().to_owned(), message)
        .hint(fault.hint_text().to_owned())
}

/// A path or name of a layer, as far as it can be shown.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let head = bytes.get(..MAX_SHOWN).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(head).into_owned();
    if head.len() < bytes.len() {
        text.push_str("...");
    }
    text
}
