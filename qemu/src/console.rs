//! The console of a running machine: every line with the time it came.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Error;

/// How many of the last lines an error shows.
const LINES_IN_ERRORS: usize = 40;

/// One line of the console, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Time since the machine was started.
    pub at: Duration,
    /// The text.
    pub text: String,
}

#[derive(Default)]
struct Contents {
    lines: Vec<Line>,
    /// The line that has no end yet.
    partial: String,
    open_streams: usize,
}

impl Contents {
    fn all(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .map(|line| line.text.as_str())
            .chain((!self.partial.is_empty()).then_some(self.partial.as_str()))
    }
}

/// What the machine and QEMU have printed so far.
///
/// Lines of QEMU itself (its standard error) begin with `qemu: `.
pub struct Console {
    shared: Arc<(Mutex<Contents>, Condvar)>,
    started: Instant,
    readers: Vec<JoinHandle<()>>,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            started: Instant::now(),
            readers: Vec::new(),
        }
    }

    /// Collects what `stream` gives, each line after `prefix`; prints it too if `echo`, at once, so
    /// that a prompt is seen before its line ends.
    pub(crate) fn collect(
        &mut self,
        mut stream: impl Read + Send + 'static,
        prefix: &'static str,
        echo: bool,
    ) {
        let shared = Arc::clone(&self.shared);
        let started = self.started;
        lock(&shared.0).open_streams += 1;
        self.readers.push(thread::spawn(move || {
            let mut line: Vec<u8> = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let count = match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                if echo {
                    show(prefix, &buffer[..count], line.is_empty());
                }
                let at = started.elapsed();
                let mut contents = lock(&shared.0);
                for &byte in &buffer[..count] {
                    if byte == b'\n' {
                        push(&mut contents, &mut line, prefix, at);
                    } else if byte != b'\r' {
                        line.push(byte);
                    }
                }
                if prefix.is_empty() {
                    contents.partial = String::from_utf8_lossy(&line).into_owned();
                }
                shared.1.notify_all();
            }
            let mut contents = lock(&shared.0);
            if !line.is_empty() {
                push(&mut contents, &mut line, prefix, started.elapsed());
            }
            if prefix.is_empty() {
                contents.partial.clear();
            }
            contents.open_streams -= 1;
            shared.1.notify_all();
        }));
    }

    /// Time since the machine was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// All complete lines so far.
    pub fn lines(&self) -> Vec<Line> {
        lock(&self.shared.0).lines.clone()
    }

    /// Everything so far as one text.
    pub fn text(&self) -> String {
        lock(&self.shared.0).all().collect::<Vec<_>>().join("\n")
    }

    /// Number of complete lines so far: a position for [`Self::wait_for_after`].
    pub fn position(&self) -> usize {
        lock(&self.shared.0).lines.len()
    }

    /// Waits until a complete line holds `text`, looking at all lines since the start, and gives
    /// that line.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `timeout`, [`Error::Ended`] if QEMU ends first.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<Line, Error> {
        self.wait_for_after(0, text, timeout)
    }

    /// Like [`Self::wait_for`], but looks only at lines from `position` on.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_after(
        &self,
        position: usize,
        text: &str,
        timeout: Duration,
    ) -> Result<Line, Error> {
        let deadline = Instant::now() + timeout;
        let mut contents = lock(&self.shared.0);
        let mut next = position;
        loop {
            while let Some(line) = contents.lines.get(next) {
                if line.text.contains(text) {
                    return Ok(line.clone());
                }
                next += 1;
            }
            let awaited = format!("\"{text}\"");
            if contents.open_streams == 0 {
                let console = tail(&contents);
                return Err(Error::Ended { awaited, console });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut {
                    awaited,
                    after: timeout,
                    console: tail(&contents),
                });
            }
            contents = self
                .shared
                .1
                .wait_timeout(contents, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The last lines, for an error message.
    pub fn tail(&self) -> String {
        tail(&lock(&self.shared.0))
    }

    /// Waits until QEMU has closed its output, so that nothing more can come.
    pub(crate) fn finish(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader does nothing that panics; there is nobody to tell if it did.
            let _ = reader.join();
        }
    }
}

/// Prints bytes as they are, and `prefix` before each line that begins in them.
fn show(prefix: &str, bytes: &[u8], mut at_start: bool) {
    use std::io::Write;
    let mut output = std::io::stdout().lock();
    let mut print = || -> std::io::Result<()> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if at_start {
                output.write_all(prefix.as_bytes())?;
            }
            output.write_all(line)?;
            at_start = line.ends_with(b"\n");
        }
        output.flush()
    };
    // Whoever reads our output may have gone away; the machine goes on.
    let _ = print();
}

fn push(contents: &mut Contents, line: &mut Vec<u8>, prefix: &str, at: Duration) {
    let text = format!("{prefix}{}", String::from_utf8_lossy(line));
    line.clear();
    contents.lines.push(Line { at, text });
}

fn tail(contents: &Contents) -> String {
    let all: Vec<&str> = contents.all().collect();
    all[all.len().saturating_sub(LINES_IN_ERRORS)..].join("\n")
}

fn lock(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_once_they_are_complete() {
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut console = Console::new();
        console.collect(reader, "", false);
        use std::io::Write;
        writer.write_all(b"one\r\ntw").unwrap();
        let wait = Duration::from_secs(10);
        assert_eq!(console.wait_for("one", wait).unwrap().text, "one");
        let unfinished = console.wait_for("tw", Duration::ZERO).unwrap_err();
        assert!(matches!(unfinished, Error::TimedOut { .. }), "{unfinished}");
        writer.write_all(b"o\nthree").unwrap();
        assert_eq!(console.wait_for_after(1, "two", wait).unwrap().text, "two");
        drop(writer);
        let error = console.wait_for("four", wait).unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error}");
        assert!(error.to_string().ends_with("one\ntwo\nthree"), "{error}");
    }

    #[test]
    fn waiting_is_bounded() {
        let (_writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut console = Console::new();
        console.collect(reader, "", false);
        let error = console
            .wait_for("never", Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
}
