//! Switching an application between its modes, at the machine's console.

mod modes;

use std::io;
use std::time::Duration;

use segue_qemu::{Error, Running};

use crate::TestMachine;
pub use modes::{Modes, Row};

/// How long a switch may take. It takes far less; this long only if it never ends.
const LIMIT: Duration = Duration::from_secs(120);

/// A console at which somebody types and reads.
pub trait Terminal {
    /// Types into it.
    ///
    /// # Errors
    /// If nobody reads any more.
    fn type_in(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// How many lines there are so far.
    fn position(&self) -> usize;

    /// Waits for a line that holds `text`, from line `position` on.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Ended`].
    fn wait_for_after(
        &self,
        position: usize,
        text: &str,
        timeout: Duration,
    ) -> Result<String, Error>;
}

impl Terminal for Running {
    fn type_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        Running::type_in(self, bytes)
    }

    fn position(&self) -> usize {
        self.console().position()
    }

    fn wait_for_after(
        &self,
        position: usize,
        text: &str,
        timeout: Duration,
    ) -> Result<String, Error> {
        let line = self.console().wait_for_after(position, text, timeout)?;
        Ok(line.text)
    }
}

impl Terminal for TestMachine {
    fn type_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).type_in(bytes)
    }

    fn position(&self) -> usize {
        Terminal::position(&**self)
    }

    fn wait_for_after(
        &self,
        position: usize,
        text: &str,
        timeout: Duration,
    ) -> Result<String, Error> {
        Terminal::wait_for_after(&**self, position, text, timeout)
    }
}

/// Switches applications by typing commands, one after the other.
pub struct Switcher<'a, T: Terminal = TestMachine> {
    terminal: &'a mut T,
    limit: Duration,
}

impl<'a, T: Terminal> Switcher<'a, T> {
    /// At this machine's console.
    pub fn new(terminal: &'a mut T) -> Self {
        Self {
            terminal,
            limit: LIMIT,
        }
    }

    /// How long a switch may take before it has failed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Has the application drive a virtual function of its own. Gives the director's line that says
    /// that it does.
    ///
    /// # Errors
    /// If there is no such line in time; the error holds the end of the console, with whatever the
    /// director said instead.
    pub fn to_direct(&mut self, name: &str) -> Result<String, Error> {
        self.switch(name, "direct")
    }

    /// Has the application's frames go through the network server. Gives the director's line.
    ///
    /// # Errors
    /// As [`Self::to_direct`].
    pub fn to_server(&mut self, name: &str) -> Result<String, Error> {
        self.switch(name, "server")
    }

    /// Asks for a switch that is to be refused. Gives the director's line that says why.
    ///
    /// # Errors
    /// As [`Self::to_direct`], if it is not refused.
    pub fn refused(&mut self, name: &str, mode: &str) -> Result<String, Error> {
        let stays = if mode == "direct" { "server" } else { "direct" };
        let awaited = format!("{name} stays in {stays} mode: ");
        self.ask(name, mode, &awaited)
    }

    /// The machine whose console it is.
    pub fn machine(&mut self) -> &mut T {
        self.terminal
    }

    fn switch(&mut self, name: &str, mode: &str) -> Result<String, Error> {
        self.ask(name, mode, &format!("director: {name} is in {mode} mode"))
    }

    fn ask(&mut self, name: &str, mode: &str, awaited: &str) -> Result<String, Error> {
        // Lines of earlier switches say the same.
        let position = self.terminal.position();
        self.terminal
            .type_in(format!("switch {name} {mode}\r").as_bytes())
            .map_err(|error| Error::Protocol(format!("the machine's keyboard: {error}")))?;
        self.terminal.wait_for_after(position, awaited, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each command with some lines.
    struct Machine {
        lines: Vec<String>,
        answers: Vec<Vec<&'static str>>,
        typed: String,
    }

    impl Terminal for Machine {
        fn type_in(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.typed += std::str::from_utf8(bytes).unwrap();
            let answer = self.answers.remove(0);
            self.lines.extend(answer.into_iter().map(str::to_owned));
            Ok(())
        }

        fn position(&self) -> usize {
            self.lines.len()
        }

        fn wait_for_after(
            &self,
            position: usize,
            text: &str,
            timeout: Duration,
        ) -> Result<String, Error> {
            let mut lines = self.lines[position..].iter();
            let found = lines.find(|line| line.contains(text)).cloned();
            found.ok_or(Error::TimedOut {
                awaited: text.into(),
                after: timeout,
                console: self.lines.join("\n"),
            })
        }
    }

    #[test]
    fn the_line_of_this_switch_is_awaited() {
        let direct = "director: kv is in direct mode on virtual function 1, after 900 us";
        let mut machine = Machine {
            lines: vec!["director: kv is in direct mode on virtual function 7".into()],
            answers: vec![
                vec![
                    "> switch kv direct",
                    "http: something else",
                    "director: http-kv is in direct mode on virtual function 2",
                    direct,
                ],
                vec!["director: kv is in server mode, after 800 us"],
                vec!["director: kv stays in server mode: there is nothing left to be had"],
            ],
            typed: String::new(),
        };
        let mut switcher = Switcher::new(&mut machine).limit(Duration::ZERO);
        assert_eq!(switcher.to_direct("kv").unwrap(), direct);
        let line = switcher.to_server("kv").unwrap();
        assert_eq!(line, "director: kv is in server mode, after 800 us");
        let error = switcher.to_direct("kv").unwrap_err().to_string();
        assert!(error.contains("stays in server mode"), "{error}");
        let typed = "switch kv direct\rswitch kv server\rswitch kv direct\r";
        assert_eq!(switcher.machine().typed, typed);
    }
}
