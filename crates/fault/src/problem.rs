//! RFC 7807 problem details: how a fault travels over HTTP, and back.

use serde::{Deserialize, Serialize};

use crate::{Category, Fault, WcCode};

const TYPE_BASE: &str = "https://worldcompute.org/errors/";

/// The body of an `application/problem+json` answer, with the extension members `code`, `category`, `retryable`
/// and `hint`. Every member is optional on the way in, as RFC 7807 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// `https://worldcompute.org/errors/<code in snake_case>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words; the same for every occurrence of one type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// This occurrence: the path asked for, or the correlation id.
    pub instance: String,
    /// `WC-001` for a numbered fault, else the snake_case code.
    pub code: String,
    /// The category's name.
    pub category: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The next action.
    pub hint: String,
}

impl Problem {
    /// Bytes of `detail` and `hint` that a client takes from a server.
    pub const MAX_TEXT: usize = 16 * 1024;
    /// Bytes of a code that a client takes from a server.
    pub const MAX_CODE: usize = 64;

    pub(crate) fn of(fault: &Fault, instance: String) -> Self {
        Self {
            kind: format!("{TYPE_BASE}{}", fault.code()),
            title: in_words(fault.code()),
            status: fault.http(),
            detail: fault.message().to_owned(),
            instance,
            code: fault
                .number()
                .map_or_else(|| fault.code().to_owned(), |number| number.to_string()),
            category: fault.category().as_str().to_owned(),
            retryable: fault.retryable(),
            hint: fault.hint_text().to_owned(),
        }
    }

    pub(crate) fn into_fault(self) -> Fault {
        let number = WcCode::parse(&self.code);
        let category = self.category(number);
        let code = self.fault_code(number, category);
        let message = cut(if self.detail.is_empty() {
            self.title
        } else {
            self.detail
        });
        let fault = Fault::from_parts(category, code, number, message);
        match cut(self.hint) {
            hint if hint.is_empty() => fault,
            hint => fault.hint(hint),
        }
    }

    fn category(&self, number: Option<WcCode>) -> Category {
        Category::parse(&self.category)
            .or(number.map(WcCode::category))
            .unwrap_or_else(|| Category::of_http(self.status))
    }

    fn fault_code(&self, number: Option<WcCode>, category: Category) -> String {
        let named = self
            .kind
            .strip_prefix(TYPE_BASE)
            .filter(|code| is_code(code));
        let fallback = || number.map_or(category.as_str(), WcCode::slug);
        named.unwrap_or_else(fallback).to_owned()
    }
}

impl Default for Problem {
    /// What RFC 7807 says of absent members.
    fn default() -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: String::new(),
            status: 500,
            detail: String::new(),
            instance: String::new(),
            code: String::new(),
            category: String::new(),
            retryable: false,
            hint: String::new(),
        }
    }
}

fn is_code(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= Problem::MAX_CODE && text.bytes().all(allowed)
}

fn in_words(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(Problem::MAX_TEXT));
    text
}
