//! Reading from somebody who may have nothing to say, or have gone.

use std::io;

/// What came of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something, and there may be more.
    Something,
    /// Nothing at the moment.
    Nothing,
    /// Nothing any more.
    TheEnd,
}

/// Nothing is there yet, or a signal came.
pub fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The other side is gone.
pub fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
