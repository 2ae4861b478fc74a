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
pub(crate) fn in_layer(layer: impl Display, fault: Fault) -> Fault {
    fault.within(format_args!("layer {layer}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_in_a_layer_keeps_its_cause_reason_and_hint() {
        let error = std::io::Error::other("the disk is gone");
        let fault = Fault::io("read it", &error)
            .because("reason", "remedy")
            .hint("look at the disk");
        let named = in_layer("base", fault.clone());
        assert_eq!(
            named.message(),
            "layer base: cannot read it: the disk is gone"
        );
        assert_eq!(
            (named.code(), named.category()),
            (fault.code(), fault.category())
        );
        assert_eq!((named.reason(), named.remedy()), ("reason", "remedy"));
        assert_eq!(named.hint_text(), "look at the disk");
    }
}
