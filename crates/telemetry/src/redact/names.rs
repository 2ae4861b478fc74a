//! Names of persons and machines: home directories, user names, host names.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use super::{pass, pattern};

const HOME: &str = "~";
const HOST: &str = "[host]";
const USER: &str = "[user]";

/// Names that name nobody: of every machine, of this program, and of the marks that redaction leaves.
const COMMON: [&str; 12] = [
    "localhost",
    "root",
    "nobody",
    "daemon",
    "worldcompute",
    "gait",
    "host",
    "user",
    "mac",
    "redacted",
    "private",
    "ip",
];

/// The names that identify a machine and the person who uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names; of a qualified name, its first label counts as well.
    pub hosts: Vec<String>,
    /// User names.
    pub users: Vec<String>,
    /// Home directories that do not lie in one of the usual places (`/home`, `/Users`, `C:\Users`, `/root`).
    pub homes: Vec<String>,
}

impl Names {
    /// The names of this machine and of the user who runs the process.
    pub fn of_this_host() -> Self {
        let home = std::env::home_dir();
        let variables = ["USER", "LOGNAME", "USERNAME"].map(|name| std::env::var(name).ok());
        Self {
            hosts: sysinfo::System::host_name().ok().into_iter().collect(),
            users: variables
                .into_iter()
                .flatten()
                .chain(home.as_deref().and_then(owner))
                .collect(),
            homes: home
                .into_iter()
                .map(|home| home.to_string_lossy().into_owned())
                .collect(),
        }
    }
}

/// Whose home it is, where the parent directory says that its children are homes.
fn owner(home: &Path) -> Option<String> {
    let parent = home.parent()?.file_name()?.to_str()?;
    let name = home.file_name()?.to_str()?;
    ["home", "users"]
        .contains(&parent.to_ascii_lowercase().as_str())
        .then(|| name.to_owned())
}

/// The names, ready for searching.
#[derive(Debug)]
pub(super) struct Patterns {
    words: Vec<(Regex, &'static str)>,
}

impl Patterns {
    pub(super) fn new(names: &Names) -> Self {
        let hosts = names
            .hosts
            .iter()
            .flat_map(|host| [host.as_str(), host.split('.').next().unwrap_or_default()]);
        let homes = names
            .homes
            .iter()
            .map(|home| home.trim_end_matches(['/', '\\']));
        let mut words: Vec<(String, &'static str)> = homes
            .filter(|home| Path::new(home).components().count() > 1)
            .map(|home| (home.to_owned(), HOME))
            .chain(hosts.map(|host| (host.to_owned(), HOST)))
            .chain(names.users.iter().map(|user| (user.clone(), USER)))
            .filter(|(word, _)| {
                word.chars().count() > 1 && !COMMON.contains(&word.to_lowercase().as_str())
            })
            .collect();
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        words.dedup();
        Self {
            words: words
                .into_iter()
                .filter_map(|(word, mark)| Some((literal(&word)?, mark)))
                .collect(),
        }
    }

    /// The text without the names. Homes go first, because they contain a user's name.
    pub(super) fn redact<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        let text = pass(text, |text| UNIX_HOME.replace_all(text, HOME));
        let text = pass(text, |text| {
            WINDOWS_HOME.replace_all(text, format!("{HOME}$end"))
        });
        let text = pass(text, |text| {
            ROOT_HOME.replace_all(text, format!("${{1}}{HOME}"))
        });
        let text = self.words.iter().fold(text, |text, (word, mark)| {
            pass(text, |text| replace_word(text, word, mark))
        });
        pass(text, |text| PRIVATE_ZONE.replace_all(text, HOST))
    }
}

static UNIX_HOME: LazyLock<Regex> = LazyLock::new(|| {
    let name = r#"[^/\s"'`<>|:;,()\[\]{}\\~][^/\s"'`<>|:;,()\[\]{}\\]*"#;
    pattern(&format!(
        r"(?:/var|/usr|/export)?/(?:home|Users)/+(?:(?:home|Users)/+)*{name}"
    ))
});
/// A name with spaces ends at a separator, any other at the first blank.
static WINDOWS_HOME: LazyLock<Regex> = LazyLock::new(|| {
    let (spaced, plain) = (
        r#"[^\\/:*?"<>|\r\n~]{1,64}(?P<end>[\\/])"#,
        r#"[^\\/:*?"<>|\s~]+"#,
    );
    pattern(&format!(
        r"(?i)\b[a-z]:[\\/]+(?:Users|Documents and Settings)[\\/]+(?:{spaced}|{plain})"
    ))
});
static ROOT_HOME: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[^\w.-])/root\b"));
static PRIVATE_ZONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9_-]+)*\.(?:local|localdomain|lan|internal|intranet|corp|home\.arpa)\b",
    )
});

/// A name too large to compile is no name; the limit of the engine is 10 MiB.
fn literal(word: &str) -> Option<Regex> {
    RegexBuilder::new(&regex::escape(word))
        .case_insensitive(true)
        .build()
        .ok()
}

/// Replaces the word where it stands alone. Overlapping candidates are each looked at.
fn replace_word<'t>(text: &'t str, word: &Regex, mark: &str) -> Cow<'t, str> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = word.find_at(text, at) {
        if stands_alone(text, found.start(), found.end()) {
            out.push_str(text.get(copied..found.start()).unwrap_or_default());
            out.push_str(mark);
            (copied, at) = (found.end(), found.end());
        } else {
            at = found.start() + found.as_str().chars().next().map_or(1, char::len_utf8);
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|head| head.chars().next_back());
    let after = text.get(end..).and_then(|tail| tail.chars().next());
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}
