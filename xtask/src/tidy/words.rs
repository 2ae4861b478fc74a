//! Words that admit that something is not real.

use super::Finding;
use super::files::TextFile;

/// They stand in a file outside of what is searched, so that the gate can search itself.
const LIST: &str = include_str!("../../forbidden-words.txt");

fn all() -> impl Iterator<Item = &'static str> {
    LIST.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The word that stands for all of them in a message.
pub fn first() -> &'static str {
    all().next().unwrap_or("forbidden word")
}

/// Every line with a forbidden word.
pub fn find(files: &[&TextFile]) -> Vec<Finding> {
    files.iter().flat_map(|file| in_file(file)).collect()
}

fn in_file(file: &TextFile) -> impl Iterator<Item = Finding> {
    file.text.lines().zip(1..).flat_map(move |(text, line)| {
        let lower = text.to_lowercase();
        let words: Vec<_> = all().filter(|word| has_word(&lower, word)).collect();
        words.into_iter().map(move |word| Finding {
            path: file.path.clone(),
            line,
            what: format!("the word `{word}`"),
        })
    })
}

/// True when `word` stands in `text` with nothing on either side that would make it part of a longer word.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let (before, rest) = text.split_at(start);
        let after = rest.strip_prefix(word).unwrap_or_default();
        !continues(before.chars().next_back(), word.chars().next())
            && !continues(word.chars().next_back(), after.chars().next())
    })
}

/// True when the two characters, side by side, belong to one word.
fn continues(left: Option<char>, right: Option<char>) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    is_word(left) && is_word(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_whole_and_in_any_case() {
        let found = |text: &str| has_word(&text.to_lowercase(), "fish");
        for text in [
            "fish",
            "// Fish",
            "FISH!()",
            "a fish.",
            "(fish)",
            "sword-fish",
            "fishy fish",
            "\"fish:\"",
        ] {
            assert!(found(text), "{text}");
        }
        for text in [
            "",
            "fishes",
            "catfish",
            "fish_detected",
            "FishDetected",
            "fish2",
            "fïsh",
            "éfish",
        ] {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn a_word_that_ends_in_a_sign_is_found_before_anything() {
        assert!(
            has_word("fish!(\"x\")", "fish!")
                && has_word("fish!x", "fish!")
                && !has_word("fish()", "fish!")
        );
    }
}
