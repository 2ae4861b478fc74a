//! Faults on their way through readers, which know only of I/O errors.

use std::error::Error;
use std::io;

use worldcompute_fault::Fault;

/// Puts a fault into an I/O error.
pub fn carry(fault: Fault) -> io::Error {
    io::Error::other(fault)
}

/// The fault that was put into an I/O error, wherever in its causes it is.
pub fn fault_of(error: &io::Error) -> Option<Fault> {
    causes(error).find_map(|cause| cause.downcast_ref::<Fault>().cloned())
}

/// The error and everything that caused it. An `io::Error` hides what it wraps from `source`.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        wrapped
            .map(|inner| inner as &(dyn Error + 'static))
            .or_else(|| cause.source())
    })
}
