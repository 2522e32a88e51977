//! Making faults at the machine's console.

use std::time::Duration;

use segue_qemu::Error;

use super::Fault;
use crate::TestMachine;
use crate::switching::Terminal;

/// How long a fault point may take to be reached before it counts as not reached.
const REACHED: Duration = Duration::from_secs(5);
/// How long a restart may take, from the line that says why it is necessary, on a busy host. It takes
/// far less; this long only if it never comes.
const RESTARTED: Duration = Duration::from_secs(120);

/// What became of a fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It struck, and the protection domain was restarted.
    Struck(Restart),
    /// It did not strike.
    NotReached,
}

/// A restart, as the console tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// Why it was necessary.
    pub reason: String,
    /// Milliseconds of the machine from the fault to the restart, as far as `init` knows of it.
    pub outage: f64,
    /// Restarts of the protection domain since the machine was started.
    pub restarts: u64,
}

/// Makes faults by typing commands, one after the other.
pub struct Injector<'a, T: Terminal = TestMachine> {
    terminal: &'a mut T,
    reached: Duration,
    restarted: Duration,
}

impl<'a, T: Terminal> Injector<'a, T> {
    /// At this machine's console.
    pub fn new(terminal: &'a mut T) -> Self {
        Self {
            terminal,
            reached: REACHED,
            restarted: RESTARTED,
        }
    }

    /// How long a fault point may take to be reached, and a restart to come.
    #[must_use]
    pub fn limits(mut self, reached: Duration, restarted: Duration) -> Self {
        (self.reached, self.restarted) = (reached, restarted);
        self
    }

    /// The machine whose console it is.
    pub fn machine(&mut self) -> &mut T {
        self.terminal
    }

    /// Makes a fault and waits until the protection domain is restarted. One that does not strike in time is
    /// taken back.
    ///
    /// # Errors
    /// If it is not restarted in time, or the machine has ended; with the end of the console.
    pub fn inject(&mut self, fault: &Fault) -> Result<Outcome, Error> {
        let position = self.terminal.position();
        self.type_line(&fault.to_string())?;
        let stopped = format!("{} was stopped: ", fault.domain);
        let struck = self
            .terminal
            .wait_for_after(position, &stopped, self.reached);
        match struck {
            Err(Error::TimedOut { .. }) if self.withdraw(&fault.domain)? => Ok(Outcome::NotReached),
            // It struck just then.
            Ok(_) | Err(Error::TimedOut { .. }) => self
                .wait_for_restart(&fault.domain, position)
                .map(Outcome::Struck),
            Err(error) => Err(error),
        }
    }

    /// Orders a fault and does not wait for it.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn order(&mut self, fault: &Fault) -> Result<(), Error> {
        self.type_line(&fault.to_string())
    }

    /// Orders faults of one protection domain that are to strike in turn. Ordered one by one, the first
    /// could strike before the next is there, which may wait for the life that it brings about.
    ///
    /// # Errors
    /// As [`Self::order`].
    pub fn order_in_turn(&mut self, faults: &[Fault]) -> Result<(), Error> {
        let Some((first, others)) = faults.split_first() else {
            return Ok(());
        };
        let mut line = first.to_string();
        for Fault {
            point, kind, skip, ..
        } in others
        {
            line += &format!(" then {point} {} {skip}", kind.name());
        }
        self.type_line(&line)
    }

    /// Takes back what was ordered in a protection domain. False if there was nothing left that had not
    /// struck.
    ///
    /// # Errors
    /// If the console does not answer.
    pub fn withdraw(&mut self, domain: &str) -> Result<bool, Error> {
        const TRIES: u64 = 4;
        let answer = format!("withdrawn from {domain}.");
        for number in 1.. {
            let position = self.terminal.position();
            self.type_line(&format!("fault {domain} withdraw"))?;
            // A console that dies meanwhile has not heard it.
            let limit = self.restarted / TRIES as u32;
            match self.terminal.wait_for_after(position, &answer, limit) {
                Ok(answer) => return Ok(!said(&answer).starts_with("0 ")),
                Err(Error::TimedOut { .. }) if number < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last try is an answer or an error")
    }

    /// Waits for the restart of a protection domain that is told of after line `position`.
    ///
    /// # Errors
    /// As [`Self::inject`].
    pub fn wait_for_restart(&self, domain: &str, position: usize) -> Result<Restart, Error> {
        let stopped = format!("{domain} was stopped: ");
        let stopped = self
            .terminal
            .wait_for_after(position, &stopped, self.restarted)?;
        let restarted = format!("{domain} was restarted, ");
        let line = self
            .terminal
            .wait_for_after(position, &restarted, self.restarted)?;
        let mut restart = restart_of(domain, &line)
            .ok_or_else(|| Error::Protocol(format!("the console says \"{line}\"")))?;
        let reason = stopped.split_once(" was stopped: ");
        restart.reason = reason.map_or("", |(_, reason)| reason).to_owned();
        Ok(restart)
    }

    /// Types a line.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn type_line(&mut self, line: &str) -> Result<(), Error> {
        self.terminal
            .type_in(format!("{line}\r").as_bytes())
            .map_err(|error| Error::Protocol(format!("the machine's keyboard: {error}")))
    }
}

/// What a line of the console says, without the prompt that it came over.
pub fn said(line: &str) -> &str {
    const ERASED: &str = "\u{1b}[K";
    line.rsplit(ERASED).next().unwrap_or(line)
}

/// What a line says of a protection domain's restart; `None` if it says nothing of it.
pub fn restart_of(domain: &str, line: &str) -> Option<Restart> {
    let rest = said(line)
        .strip_prefix(domain)?
        .strip_prefix(" was restarted, ")?;
    let (outage, rest) = rest.split_once(" ms after its fault (restarts so far: ")?;
    Some(Restart {
        reason: String::new(),
        outage: outage.parse().ok()?,
        restarts: rest.strip_suffix(").")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use segue_fault_points::Kind;

    /// Answers each command with some lines.
    struct Machine {
        lines: Vec<String>,
        answers: Vec<Vec<&'static str>>,
    }

    impl Terminal for Machine {
        fn type_in(&mut self, _: &[u8]) -> io::Result<()> {
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
                awaited: format!("\"{text}\""),
                after: timeout,
                console: self.lines.join("\n"),
            })
        }
    }

    #[test]
    fn a_fault_is_followed_until_the_restart() {
        let mut machine = Machine {
            lines: vec!["netserver was stopped: it was tired.".into()],
            answers: vec![
                vec![
                    "> fault netserver receive_copied panic 0",
                    "netserver was stopped: it gave up (a panic).",
                    "netserver was restarted, 0.412 ms after its fault (restarts so far: 4).",
                ],
                vec!["> fault netserver receive_copied panic 0"],
                vec!["1 fault was withdrawn from netserver."],
                vec!["> fault netserver receive_copied panic 0"],
                vec![
                    "netserver was stopped: it gave up (a panic).",
                    "netserver was restarted, 0.513 ms after its fault (restarts so far: 5).",
                    "0 faults were withdrawn from netserver.",
                ],
                vec!["netserver was stopped: it made no progress for 20 ms."],
            ],
        };
        let mut injector = Injector::new(&mut machine);
        let fault = Fault {
            domain: "netserver".into(),
            point: "receive_copied".into(),
            kind: Kind::Panic,
            skip: 0,
        };
        let expected = Restart {
            reason: "it gave up (a panic).".into(),
            outage: 0.412,
            restarts: 4,
        };
        let outcome = injector.inject(&fault).unwrap();
        assert_eq!(outcome, Outcome::Struck(expected));
        assert_eq!(injector.inject(&fault).unwrap(), Outcome::NotReached);
        let outcome = injector.inject(&fault).unwrap();
        assert!(matches!(
            outcome,
            Outcome::Struck(Restart { restarts: 5, .. })
        ));
        let error = injector.inject(&fault).unwrap_err().to_string();
        assert!(error.contains("netserver was restarted"), "{error}");
    }

    #[test]
    fn lines_about_others_say_nothing() {
        let line = "http was restarted, 12.5 ms after its fault (restarts so far: 1).";
        assert_eq!(restart_of("http", line).unwrap().outage, 12.5);
        let over_prompt = format!("segue> \u{1b}[K{line}");
        assert_eq!(restart_of("http", &over_prompt), restart_of("http", line));
        assert_eq!(restart_of("kv", line), None);
        assert_eq!(restart_of("http", "http: was restarted, 1"), None);
    }
}
