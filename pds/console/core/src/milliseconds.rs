//! How times are shown.

use core::fmt;

/// A time in microseconds, shown in milliseconds.
pub struct Milliseconds(pub u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(0).saturating_sub(".000 ms".len());
        write!(f, "{:>width$}.{:03} ms", self.0 / 1000, self.0 % 1000)
    }
}
