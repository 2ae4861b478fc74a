//! The one error type of the public boundaries.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use crate::{Category, Envelope, Migration, Problem, WcCode};

/// The code of a wrong command line.
const USAGE: &str = "usage";
/// The code of failed regression fixtures, which `gait` reports with an exit code of its own.
const REGRESS_FAILED: &str = "regress_failed";
/// The code of a refused unsafe operation, which `gait` reports with an exit code of its own.
const UNSAFE_OPERATION: &str = "unsafe_operation";
const UNSAFE_HINT: &str = "pass explicit unsafe flags only for approved replay paths";

/// What went wrong, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    category: Category,
    code: Cow<'static, str>,
    number: Option<WcCode>,
    message: String,
    hint: Option<Cow<'static, str>>,
    /// On the heap: an error is carried in every result, and few have this.
    because: Option<Box<Because>>,
    /// On the heap for the same reason.
    migration: Option<Box<Migration>>,
}

/// What tells apart the faults that share a code for the sake of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Because {
    reason: &'static str,
    remedy: &'static str,
}

impl Fault {
    /// A fault with a stable snake_case `code` of its own and no number.
    pub fn new(
        category: Category,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            category,
            code: code.into(),
            number: None,
            message: message.into(),
            hint: None,
            because: None,
            migration: None,
        }
    }

    /// A numbered fault of the public API; its code is the slug, its category the code's.
    pub fn wc(number: WcCode, message: impl Into<String>) -> Self {
        Self {
            number: Some(number),
            ..Self::new(number.category(), number.slug(), message)
        }
    }

    /// A wrong command line: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Category::InvalidInput, USAGE, message)
    }

    /// A refusal of the operating system while doing `action` (e.g. `"write <path>"`).
    ///
    /// The code tells the causes apart that a user can act on: `not_found`, `permission_denied`, `already_exists`,
    /// `disk_full`, `file_too_large`, `read_only_filesystem`; everything else is `io_failure`.
    pub fn io(action: impl fmt::Display, error: &io::Error) -> Self {
        let (code, hint) = io_code(error.kind());
        let fault =
            Self::new(Category::IoFailure, code, format!("cannot {action}")).caused_by(error);
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }

    /// Names the next action.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        let hint = hint.into();
        self.hint = None;
        if hint != self.hint_text() {
            self.hint = Some(hint);
        }
        self
    }

    /// Names the cause with a stable snake_case `reason` and the next action for it, where a contract fixes code and
    /// hint for several causes at once.
    #[must_use]
    pub fn because(mut self, reason: &'static str, remedy: &'static str) -> Self {
        self.because = Some(Box::new(Because { reason, remedy }));
        self
    }

    /// Says what to write instead of what is no longer read.
    #[must_use]
    pub fn migrated(mut self, migration: Migration) -> Self {
        self.migration = Some(Box::new(migration));
        self
    }

    /// Gives a fault of a lower floor its number in the public API; category, code, message and hint stay.
    #[must_use]
    pub fn numbered(mut self, number: WcCode) -> Self {
        self.number = Some(number);
        self
    }

    /// Appends the text of `error` and of everything that caused it to the message.
    #[must_use]
    pub fn caused_by(mut self, error: impl Error) -> Self {
        self.append_cause(&error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            self.append_cause(&cause.to_string());
            source = cause.source();
        }
        self
    }

    /// Names the place where it went wrong, before the message; all else stays.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What kind of thing went wrong.
    pub const fn category(&self) -> Category {
        self.category
    }

    /// The stable snake_case code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The number in the public API, if it has one.
    pub const fn number(&self) -> Option<WcCode> {
        self.number
    }

    /// What happened, with its causes, without number and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn retryable(&self) -> bool {
        self.category.retryable()
    }

    /// The next action: the fault's own, else its category's.
    pub fn hint_text(&self) -> &str {
        match &self.hint {
            Some(hint) => hint,
            None if self.code == UNSAFE_OPERATION => UNSAFE_HINT,
            None => self.category.hint(),
        }
    }

    /// The cause behind a code that several causes share; empty when the code says it all.
    pub fn reason(&self) -> &'static str {
        self.because.as_ref().map_or("", |because| because.reason)
    }

    /// The next action for [`Fault::reason`]; empty when the hint says it all.
    pub fn remedy(&self) -> &'static str {
        self.because.as_ref().map_or("", |because| because.remedy)
    }

    /// What to write instead, where something was that is no longer read.
    pub fn migration(&self) -> Option<&Migration> {
        self.migration.as_deref()
    }

    /// The exit code of the `worldcompute` binary.
    pub fn exit_code(&self) -> u8 {
        match self.number {
            Some(WcCode::ReservationAcquisitionFailed) => 65,
            Some(WcCode::ParaDiGMSNonconvergence) => 66,
            Some(WcCode::AttestationRootMismatch) => 67,
            None if self.code == USAGE => 2,
            _ => 1,
        }
    }

    /// The exit code of the `gait` binary.
    pub fn gait_exit_code(&self) -> u8 {
        match &*self.code {
            REGRESS_FAILED => 5,
            UNSAFE_OPERATION => 8,
            _ => self.category.gait_exit(),
        }
    }

    /// The HTTP status: the number's, else the category's.
    pub fn http(&self) -> u16 {
        self.number.map_or(self.category.http(), WcCode::http)
    }

    /// The gRPC status: the number's, else the category's.
    pub fn grpc(&self) -> i32 {
        self.number.map_or(self.category.grpc(), WcCode::grpc)
    }

    /// The JSON object a command prints with `--json`.
    pub fn envelope(&self, correlation_id: impl Into<String>) -> Envelope {
        Envelope::of(self, correlation_id.into())
    }

    /// The RFC 7807 body of an HTTP answer; `instance` names the occurrence (path or correlation id).
    pub fn problem(&self, instance: impl Into<String>) -> Problem {
        Problem::of(self, instance.into())
    }

    /// The fault that a server described: the inverse of [`Fault::problem`].
    ///
    /// Takes any RFC 7807 body. Unknown categories and numbers of later versions fall back to the HTTP status;
    /// over-long texts are cut at [`Problem::MAX_TEXT`].
    pub fn from_problem(problem: Problem) -> Self {
        problem.into_fault()
    }

    /// The text for a human: `Error: WC-001: message`, then the hint on a line of its own.
    ///
    /// Control characters are escaped and continuation lines indented, so that a message from a peer can neither
    /// steer the terminal nor pose as another line of output.
    pub fn human(&self) -> String {
        format!(
            "Error: {}\n  hint: {}",
            printable(&self.to_string()),
            printable(match self.remedy() {
                "" => self.hint_text(),
                remedy => remedy,
            })
        )
    }

    pub(crate) fn from_parts(
        category: Category,
        code: String,
        number: Option<WcCode>,
        message: String,
    ) -> Self {
        Self {
            category,
            code: code.into(),
            number,
            message,
            hint: None,
            because: None,
            migration: None,
        }
    }

    /// Wrappers often repeat what they wrap: a cause that the message already ends with adds nothing.
    fn append_cause(&mut self, cause: &str) {
        if !cause.is_empty() && !self.message.ends_with(cause) {
            self.message.push_str(": ");
            self.message.push_str(cause);
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{number}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for Fault {}

fn io_code(kind: io::ErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        io::ErrorKind::NotFound => ("not_found", Some("check that the path exists")),
        io::ErrorKind::PermissionDenied => (
            "permission_denied",
            Some("check the owner and mode of the path"),
        ),
        io::ErrorKind::AlreadyExists => (
            "already_exists",
            Some("remove what is there or choose another path"),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("disk_full", Some("free disk space and retry"))
        }
        io::ErrorKind::FileTooLarge => (
            "file_too_large",
            Some("raise the file size limit or write less"),
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            "read_only_filesystem",
            Some("choose a path on a writable file system"),
        ),
        io::ErrorKind::IsADirectory => (
            "io_failure",
            Some("give the path of a file: there is a directory"),
        ),
        _ => ("io_failure", None),
    }
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\n  "),
            '\t' => out.push(c),
            c if c.is_control() || is_bidi_control(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Characters that reorder what a terminal shows (Unicode TR 36, 3.6).
const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
