//! What can go wrong, said in sentences.

use std::fmt;
use std::time::Duration;

/// Why a machine did not start or did not do what was waited for.
#[derive(Debug)]
pub enum Error {
    /// The machine cannot be started as described; the sentence says what to do.
    CannotStart(String),
    /// The text did not come in time.
    TimedOut {
        /// What was waited for.
        awaited: String,
        /// How long.
        after: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// QEMU ended while something was still expected of it.
    Ended {
        /// What was waited for.
        awaited: String,
        /// The last lines of the console and of QEMU's own messages.
        console: String,
    },
    /// QEMU answered a command with an error, or not as its protocol says.
    Protocol(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotStart(sentence) | Self::Protocol(sentence) => formatter.write_str(sentence),
            Self::TimedOut {
                awaited,
                after,
                console,
            } => write!(
                formatter,
                "waited {} s in vain for {awaited}; the console ends so:\n{console}",
                after.as_secs()
            ),
            Self::Ended { awaited, console } => write!(
                formatter,
                "QEMU ended while {awaited} was awaited; the console ends so:\n{console}"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn cannot_start(what: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::CannotStart(format!("{what}: {cause}"))
    }
}
