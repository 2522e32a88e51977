//! What people are told of mode switches.

use core::fmt;

use crate::board::Refused;

/// A step of a switch, named by what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Nothing: the application is in server mode and holds no function.
    Server,
    /// `pcie` is to grant the function.
    Grant,
    /// The application is to map and reset it.
    Prepare,
    /// The owner of the physical function is to enable it.
    Enable,
    /// The application is to start its queues, and to receive from both.
    Attach,
    /// The owner of the physical function is to route its frames to the function.
    Route,
    /// The application is to transmit through the function.
    Transmit,
    /// Nothing: the application is in direct mode.
    Direct,
    /// The application is to transmit through the network server.
    Drain,
    /// The owner of the physical function is to route its frames to the network server.
    RouteBack,
    /// The application is to let the function go.
    Release,
    /// `pcie` is to revoke the function.
    Revoke,
    /// The owner of the physical function is to scrub it.
    Scrub,
}

impl Step {
    /// Who is waited for; `None` if nobody.
    pub fn participant(self) -> Option<Participant> {
        match self {
            Step::Server | Step::Direct => None,
            Step::Grant | Step::Revoke => Some(Participant::Pcie),
            Step::Enable | Step::Route | Step::RouteBack | Step::Scrub => {
                Some(Participant::PhysicalFunction)
            }
            Step::Prepare | Step::Attach | Step::Transmit | Step::Drain | Step::Release => {
                Some(Participant::Application)
            }
        }
    }

    /// Whether it is one of the way to direct mode.
    pub fn is_on_the_way_to_direct(self) -> bool {
        Step::Grant <= self && self <= Step::Transmit
    }

    /// What is to be done, for "to ... virtual function 2".
    fn text(self) -> &'static str {
        match self {
            Step::Server | Step::Direct => "leave alone",
            Step::Grant => "grant",
            Step::Prepare => "take",
            Step::Enable => "enable",
            Step::Attach => "start the queues of",
            Step::Route => "route frames to",
            Step::Transmit => "transmit through",
            Step::Drain => "stop transmitting through",
            Step::RouteBack => "route frames away from",
            Step::Release => "let go of",
            Step::Revoke => "revoke",
            Step::Scrub => "scrub",
        }
    }
}

/// Who takes part in a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Participant {
    /// The manager of configuration space.
    Pcie,
    /// The owner of the physical function.
    PhysicalFunction,
    /// The application itself.
    Application,
}

/// Why a step did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hitch {
    /// There was no answer in time.
    Late,
    /// The answer was no.
    Refused(Refused),
}

/// Why a wish is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The application does not run.
    NotRunning,
    /// The system description grants it no function.
    NotAllowed,
    /// It has no MAC address yet.
    NoAddress,
    /// Its MAC address is still that of an application whose switch has not ended.
    AddressInUse,
    /// All functions that it may have are held, or not to be used.
    NoFunction,
    /// It is to go to a network server that does not run.
    NoServer,
    /// A function that was its own is not scrubbed yet.
    NotScrubbed,
}

/// Something to be told about an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is in direct mode.
    IsDirect {
        /// The function.
        function: u8,
        /// Since the decision.
        microseconds: u64,
    },
    /// It is back in server mode.
    IsServer {
        /// Since the decision.
        microseconds: u64,
    },
    /// A switch was not begun.
    NotBegun {
        /// Whether to direct mode.
        direct: bool,
        /// Why.
        obstacle: Obstacle,
    },
    /// A switch to direct mode begins only when the application has let go of the function that was
    /// taken back from it.
    Waits,
    /// A switch to direct mode failed; it is undone.
    Failed {
        /// Where.
        step: Step,
        /// The function.
        function: u8,
        /// Why.
        hitch: Hitch,
    },
    /// The application did not do its part of the way back: it goes on without.
    Forced {
        /// Where.
        step: Step,
        /// The function.
        function: u8,
        /// Why.
        hitch: Hitch,
    },
    /// A server did not do its part of the way back: nobody gets the function, and it is
    /// tried again.
    Stuck {
        /// Where.
        step: Step,
        /// The function.
        function: u8,
        /// Why.
        hitch: Hitch,
    },
    /// A function that was stuck is free after all.
    Free {
        /// The function.
        function: u8,
    },
    /// The application's life ended while it held a function.
    Gone {
        /// The function.
        function: u8,
    },
    /// The application cannot work with its function.
    AsksBack {
        /// The function.
        function: u8,
        /// Why.
        refused: Refused,
    },
    /// The director's predecessor left it in the middle of a switch: it is undone.
    Undone,
}

impl Report {
    /// Whether something is not as it should be.
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Report::IsDirect { .. } | Report::IsServer { .. } | Report::Free { .. }
        )
    }

    /// The sentence about the application called `name`.
    pub fn about<'a>(&'a self, name: &'a str) -> impl fmt::Display + use<'a> {
        Sentence { name, report: self }
    }
}

struct Sentence<'a> {
    name: &'a str,
    report: &'a Report,
}

impl Sentence<'_> {
    /// Whose fault it is.
    fn blame(
        &self,
        to: &mut fmt::Formatter<'_>,
        step: Step,
        function: u8,
        hitch: Hitch,
    ) -> fmt::Result {
        let culprit = match step.participant() {
            Some(Participant::Pcie) => "pcie",
            Some(Participant::PhysicalFunction) => "the owner of the physical function",
            Some(Participant::Application) | None => self.name,
        };
        let task = step.text();
        match hitch {
            Hitch::Late => write!(
                to,
                "{culprit} did not answer in time when it was to {task} virtual function {function}"
            ),
            Hitch::Refused(refused) => {
                let reason = refused.text();
                write!(
                    to,
                    "{culprit} refused to {task} virtual function {function}: {reason}"
                )
            }
        }
    }
}

/// Microseconds as milliseconds.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{:03} ms", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match *self.report {
            Report::IsDirect {
                function,
                microseconds,
            } => write!(
                to,
                "{name} is in direct mode on virtual function {function}, {} after the decision",
                Milliseconds(microseconds)
            ),
            Report::IsServer { microseconds } => write!(
                to,
                "{name} is in server mode, {} after the decision",
                Milliseconds(microseconds)
            ),
            Report::Waits => write!(
                to,
                "{name} has not let go of its last virtual function yet: its switch waits for that"
            ),
            Report::NotBegun { direct, obstacle } => {
                let mode = if direct { "server" } else { "direct" };
                write!(to, "{name} stays in {mode} mode: ")?;
                to.write_str(match obstacle {
                    Obstacle::NotRunning => "it does not run",
                    Obstacle::NotAllowed => {
                        "the system description lets it have no virtual function"
                    }
                    Obstacle::NoAddress => "it has no MAC address yet",
                    Obstacle::AddressInUse => "its MAC address is still in use by another",
                    Obstacle::NoFunction => "no virtual function is free for it",
                    Obstacle::NoServer => "the network server does not run",
                    Obstacle::NotScrubbed => "the virtual function it had is not scrubbed yet",
                })
            }
            Report::Failed {
                step,
                function,
                hitch,
            } => {
                write!(to, "{name} stays in server mode: ")?;
                self.blame(to, step, function, hitch)
            }
            Report::Forced {
                step,
                function,
                hitch,
            } => {
                write!(to, "{name} loses its virtual function: ")?;
                self.blame(to, step, function, hitch)
            }
            Report::Stuck {
                step,
                function,
                hitch,
            } => {
                write!(to, "virtual function {function} of {name} is for nobody: ")?;
                self.blame(to, step, function, hitch)
            }
            Report::Free { function } => {
                write!(to, "virtual function {function} of {name} is free at last")
            }
            Report::Gone { function } => {
                write!(
                    to,
                    "{name} is gone: virtual function {function} is taken back"
                )
            }
            Report::AsksBack { function, refused } => {
                let reason = refused.text();
                write!(
                    to,
                    "{name} gives virtual function {function} back: {reason}"
                )
            }
            Report::Undone => write!(
                to,
                "{name} was in the middle of a switch: it goes to server mode"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    fn said(report: Report) -> std::string::String {
        report.about("http").to_string()
    }

    #[test]
    fn sentences_name_the_culprit() {
        let direct = Report::IsDirect {
            function: 2,
            microseconds: 1_204,
        };
        assert_eq!(
            said(direct),
            "http is in direct mode on virtual function 2, 1.204 ms after the decision"
        );
        assert!(!direct.is_warning());
        let failed = Report::Failed {
            step: Step::Grant,
            function: 2,
            hitch: Hitch::Late,
        };
        assert_eq!(
            said(failed),
            "http stays in server mode: pcie did not answer in time when it was to grant virtual \
             function 2"
        );
        assert!(failed.is_warning());
        assert_eq!(
            said(Report::Failed {
                step: Step::Attach,
                function: 1,
                hitch: Hitch::Refused(Refused::Device),
            }),
            "http stays in server mode: http refused to start the queues of virtual function 1: \
             the device does not do what it must"
        );
        assert_eq!(
            said(Report::Stuck {
                step: Step::Scrub,
                function: 1,
                hitch: Hitch::Late,
            }),
            "virtual function 1 of http is for nobody: the owner of the physical function did not \
             answer in time when it was to scrub virtual function 1"
        );
        assert_eq!(
            said(Report::NotBegun {
                direct: false,
                obstacle: Obstacle::NoServer,
            }),
            "http stays in direct mode: the network server does not run"
        );
    }
}
