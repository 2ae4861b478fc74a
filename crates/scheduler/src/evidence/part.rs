//! The names that files of a bundle can have, and no others.

use std::fmt;

use worldcompute_proof::Cid;

/// The folders of a bundle.
pub(super) const FOLDERS: [&str; 3] = ["decisions", "objects", "receipts"];

/// One file of a bundle. Its name follows from what it is, so no name can lead out of the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The submitter's list of all other files.
    Index,
    /// The job.
    Manifest,
    /// The receipt of the task with this index.
    Receipt(u32),
    /// The decision with this content.
    Decision(Cid),
    /// Bytes that were run, read or left behind.
    Object(Cid),
}

impl Part {
    /// The part of that name, spelled exactly as it is displayed.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let part = match name.split_once('/') {
            None if name == "index.json" => Self::Index,
            None if name == "manifest.cbor" => Self::Manifest,
            Some(("receipts", file)) => Self::Receipt(stem(file)?.parse().ok()?),
            Some(("decisions", file)) => Self::Decision(stem(file)?.parse().ok()?),
            Some(("objects", file)) => Self::Object(file.parse().ok()?),
            _ => return None,
        };
        (part.to_string() == name).then_some(part)
    }
}

fn stem(file: &str) -> Option<&str> {
    file.strip_suffix(".json")
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("index.json"),
            Self::Manifest => f.write_str("manifest.cbor"),
            Self::Receipt(index) => write!(f, "receipts/{index:05}.json"),
            Self::Decision(cid) => write!(f, "decisions/{cid}.json"),
            Self::Object(cid) => write!(f, "objects/{cid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_part_is_named_and_found_again() {
        let cid = Cid::raw("x");
        let parts = [
            Part::Index,
            Part::Manifest,
            Part::Receipt(0),
            Part::Receipt(123_456),
            Part::Decision(cid),
            Part::Object(cid),
        ];
        for part in parts {
            assert_eq!(Part::parse(&part.to_string()), Some(part));
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_have_an_alias_are_no_parts() {
        let cid = Cid::raw("x");
        let names = [
            "",
            "/",
            ".",
            "..",
            "../manifest.cbor",
            "/etc/passwd",
            "./manifest.cbor",
            "Manifest.cbor",
            "manifest.cbor/",
            "manifest.cbor\0",
            "receipts",
            "receipts/",
            "receipts/3.json",
            "receipts/+0003.json",
            "receipts/000003.json",
            "receipts/00003.JSON",
            "receipts/../manifest.cbor",
            "receipts//00003.json",
            "receipts/00003",
            "objects/..",
            "receipts/99999999999.json",
            "receipts\\00003.json",
        ];
        let made = [
            format!("objects/{cid}.json"),
            format!("objects/./{cid}"),
            format!("objects/{}", cid.to_string().to_uppercase()),
            format!("decisions/{cid}"),
            format!("decisions/../objects/{cid}"),
            format!("other/{cid}"),
            format!("/objects/{cid}"),
        ];
        for name in names.into_iter().chain(made.iter().map(String::as_str)) {
            assert_eq!(Part::parse(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_read_is_spelled_back(name in "(receipts|objects|decisions|[a-z.]{0,8})/?[a-z0-9./\\\\]{0,64}") {
            if let Some(part) = Part::parse(&name) {
                prop_assert_eq!(part.to_string(), name);
            }
        }
    }
}
