//! The table that the console's command `vf` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use segue_qemu::Error;

use super::Terminal;
use crate::TestMachine;

/// How long the table may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Who is in which mode, and who has which function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// By the application's name.
    pub applications: BTreeMap<String, Row>,
    /// By the function's number; its holder, if it has one.
    pub functions: BTreeMap<u8, Option<String>>,
}

/// An application's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `server`, `direct`, `to server` or `to direct`.
    pub mode: String,
    /// The virtual function it holds.
    pub function: Option<u8>,
    /// Switches so far.
    pub switches: u64,
    /// Switches so far that came to nothing.
    pub failures: u64,
}

impl Modes {
    /// Asks for the table at the machine's console.
    ///
    /// # Errors
    /// If it does not come.
    pub fn ask(machine: &mut TestMachine) -> Result<Self, Error> {
        let position = Terminal::position(machine);
        machine
            .type_in(b"vf\r")
            .map_err(|error| Error::Protocol(format!("the machine's keyboard: {error}")))?;
        // The last line is that of the last function.
        machine
            .console()
            .wait_for_after(position, "Function 6: ", LIMIT)?;
        let lines = machine.console().lines();
        let lines = lines.iter().skip(position);
        Ok(Self::read(lines.map(|line| line.text.as_str())))
    }

    /// Reads it; other lines in between are left out.
    pub fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut modes = Self::default();
        for line in lines {
            modes.read_line(line);
        }
        modes
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("Function ") {
            let (number, holder) = rest.split_once(": ")?;
            let holder = (holder != "free").then(|| holder.to_owned());
            self.functions.insert(number.parse().ok()?, holder);
            return None;
        }
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let mode = match words.next()? {
            "to" => format!("to {}", words.next()?),
            mode => mode.to_owned(),
        };
        let (function, switches, failures) = (words.next()?, words.next()?, words.next()?);
        let row = Row {
            mode,
            function: match function {
                "-" => None,
                number => Some(number.parse().ok()?),
            },
            switches: switches.parse().ok()?,
            failures: failures.parse().ok()?,
        };
        self.applications.insert(name.to_owned(), row);
        None
    }

    /// Whether nobody has a function.
    pub fn all_free(&self) -> bool {
        self.functions.values().all(Option::is_none)
            && self.applications.values().all(|row| row.function.is_none())
    }

    /// Whether rows and functions agree, and each application is in one of the two modes: in direct
    /// mode with a function, in server mode without one.
    ///
    /// # Errors
    /// What does not agree.
    pub fn consistent(&self) -> Result<(), String> {
        for (name, row) in &self.applications {
            match (row.mode.as_str(), row.function) {
                ("server", None) => {}
                ("direct", Some(function))
                    if self.functions.get(&function) == Some(&Some(name.clone())) => {}
                _ => return Err(format!("{name}: {row:?}; {:?}", self.functions)),
            }
        }
        for (function, holder) in &self.functions {
            if let Some(holder) = holder
                && self.applications.get(holder).and_then(|row| row.function) != Some(*function)
            {
                return Err(format!("function {function} is that of {holder}: {self:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "\
> vf
name                 mode       function  switches  failures    last switch
http                 direct            1         3         0       1.234 ms
director: kv is in server mode, 1.000 ms after the decision
kv                   server            -         0         2              -
Function 1: http
Function 2: free
";
        let modes = Modes::read(text.lines());
        assert_eq!(modes.applications.len(), 2);
        let http = &modes.applications["http"];
        assert_eq!((http.mode.as_str(), http.function), ("direct", Some(1)));
        assert_eq!((http.switches, http.failures), (3, 0));
        assert_eq!(modes.applications["kv"].failures, 2);
        let functions = BTreeMap::from([(1, Some("http".to_owned())), (2, None)]);
        assert_eq!(modes.functions, functions);
        assert_eq!(modes.consistent(), Ok(()));
        assert!(!modes.all_free());
    }

    #[test]
    fn contradictions_are_seen() {
        for text in [
            "http direct - 1 0\nFunction 1: free",
            "http direct 1 1 0\nFunction 1: free",
            "http server - 1 0\nFunction 1: http",
            "http to direct 1 1 0\nFunction 1: http",
        ] {
            let modes = Modes::read(text.lines());
            assert!(modes.consistent().is_err(), "{text}: {modes:?}");
        }
    }
}
