//! Account for it: what ran, where, on whose word.
//!
//! A [`receipt::Receipt`] says what one execution did. Its executor signs it ([`receipt::ExecutorReceipt`]) and the
//! submitter, who got the result, countersigns the same bytes ([`receipt::SignedReceipt`]). Each step is a type of its
//! own that only signing or verifying can make.

pub mod receipt;
