//! The operator's commands.

use core::fmt::{self, Write};
use segue_status::system::SystemStatus;

use crate::Regions;

const HELP: &str = "\
help      shows this list
status    shows every protection domain: state, priority, memory, faults, restarts
switch NAME direct|server|auto
          asks for an application's mode: with a virtual function of its own, behind
          the network server, or as the policy decides
upgrade NAME IMAGE
          runs another image of a protection domain; alone, lists the images
vf        shows the applications' modes, and who has which virtual function
";

const NO_IMAGES: &str = "No protection domain of this system has another image.\n";

const HELP_WITH_FAULTS: &str = "\
fault     shows in whom faults can be injected, and how many were
fault PD  shows the fault points of a protection domain and how often it reached each
fault PD POINT panic|illegal|memory|loop|deadlock [SKIP] [then POINT ...]
          lets it fail when it reaches the point, after it has passed it SKIP times,
          then at the next one, perhaps in its next life
fault PD withdraw
          takes back what has not struck yet
";

const NO_DIRECTOR: &str = "This system has no director: nobody changes its mode.\n";

/// Who is to be notified of what the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The director has a wish to read.
    pub director: bool,
    /// `init` has an order to read.
    pub init: bool,
}

/// Carries the command on `line` out and prints its result.
pub fn execute(
    line: &str,
    regions: &Regions,
    output: &mut impl Write,
) -> Result<Asked, fmt::Error> {
    let line = line.trim();
    // Without fault points nothing of the command is compiled in.
    let faults = regions
        .faults
        .as_ref()
        .filter(|_| segue_fault_points::ENABLED);
    let (command, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (command, arguments) {
        ("", _) => Ok(()),
        ("help" | "?", "") => {
            output.write_str(HELP)?;
            output.write_str(if faults.is_some() {
                HELP_WITH_FAULTS
            } else {
                ""
            })
        }
        ("status", "") => match &regions.status {
            Some(status) => write_status(status, output),
            None => writeln!(
                output,
                "The system description gives the console no system_status."
            ),
        },
        ("switch", arguments) => match &regions.switching {
            Some(switching) => {
                let director = switching.switch(arguments, output)?;
                return Ok(Asked {
                    director,
                    init: false,
                });
            }
            None => output.write_str(NO_DIRECTOR),
        },
        ("upgrade", arguments) => match &regions.upgrading {
            Some(upgrading) => {
                let init = upgrading.order(arguments, output)?;
                return Ok(Asked {
                    director: false,
                    init,
                });
            }
            None => output.write_str(NO_IMAGES),
        },
        ("vf", "") => match &regions.switching {
            Some(switching) => switching.write_table(output),
            None => output.write_str(NO_DIRECTOR),
        },
        ("fault", arguments) if let Some(faults) = faults => faults.execute(arguments, output),
        _ => writeln!(
            output,
            "There is no command \"{line}\". Type \"help\" for a list."
        ),
    }?;
    Ok(Asked::default())
}

fn write_status(status: &SystemStatus, output: &mut impl Write) -> fmt::Result {
    writeln!(
        output,
        "{:<20} {:<10} {:>8} {:>10} {:>7} {:>8}",
        "name", "state", "priority", "memory", "faults", "restarts"
    )?;
    for domain in status.domains() {
        writeln!(
            output,
            "{:<20} {:<10} {:>8} {:>6} KiB {:>7} {:>8}",
            domain.name(),
            domain.state.text(),
            domain.priority,
            domain.memory / 1024,
            domain.faults,
            domain.restarts,
        )?;
    }
    writeln!(
        output,
        "{} MiB of memory are free.",
        status.free_memory() >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use segue_shared_memory::testing::leaked_region;
    use segue_status::system::{Domain, REGION_SIZE, State};
    use std::string::String;

    fn answer(line: &str) -> String {
        let status = SystemStatus::new(leaked_region(REGION_SIZE)).unwrap();
        let mut name = [0; 64];
        name[..4].copy_from_slice(b"http");
        let domain = Domain {
            name,
            state: State::Stopped,
            priority: 100,
            faults: 1,
            restarts: 0,
            outage: 0,
            idle: 0,
            rebuild: 0,
            started: 0,
            memory: 3 << 20,
            capabilities: 0,
        };
        status.set_domain(0, &domain);
        status.set_free(64 << 20, 0);
        status.publish(1);
        let regions = Regions {
            status: Some(status),
            ..Regions::default()
        };
        let mut output = String::new();
        assert_eq!(execute(line, &regions, &mut output), Ok(Asked::default()));
        output
    }

    #[test]
    fn status_lists_the_protection_domains() {
        let answer = answer("  status ");
        assert!(
            answer
                .contains("http                 stopped         100   3072 KiB       1        0\n"),
            "{answer}"
        );
        assert!(answer.contains("64 MiB of memory are free."));
    }

    #[test]
    fn an_unknown_command_is_named() {
        assert_eq!(
            answer("sttus"),
            "There is no command \"sttus\". Type \"help\" for a list.\n"
        );
        assert!(answer("help").contains("status"));
        assert_eq!(answer(""), "");
        assert!(answer("status now").contains("no command \"status now\""));
    }

    #[test]
    fn a_system_without_a_director_says_so() {
        for line in ["vf", "switch http direct", "switch"] {
            assert_eq!(answer(line), NO_DIRECTOR);
        }
    }
}
