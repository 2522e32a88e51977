//! The operator's commands.

use core::fmt::{self, Write};
use segue_status::system::SystemStatus;

const HELP: &str = "\
help      shows this list
status    shows every protection domain: state, priority, memory, faults, restarts
";

/// Carries the command on `line` out and prints its result.
pub fn execute(line: &str, status: Option<&SystemStatus>, output: &mut impl Write) -> fmt::Result {
    match line.trim() {
        "" => Ok(()),
        "help" | "?" => output.write_str(HELP),
        "status" => match status {
            Some(status) => write_status(status, output),
            None => writeln!(
                output,
                "The system description gives the console no system_status."
            ),
        },
        other => writeln!(
            output,
            "There is no command \"{other}\". Type \"help\" for a list."
        ),
    }
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
            started: 0,
            memory: 3 << 20,
            capabilities: 0,
        };
        status.set_domain(0, &domain);
        status.publish(1, 64 << 20);
        let mut output = String::new();
        execute(line, Some(&status), &mut output).unwrap();
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
    }
}
