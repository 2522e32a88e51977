//! The one error type: a sentence for a person.

use std::fmt;
use std::path::Path;

/// What went wrong, and what to do about it, as a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error that reads as `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// `what` could not be done to the file or folder `path`.
    pub(crate) fn file(what: &str, path: &Path, cause: &std::io::Error) -> Self {
        Self(format!("cannot {what} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
