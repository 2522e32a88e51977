//! A protection domain is given another image while it runs; one that does not work is taken back.

use std::time::Duration;

use segue_qemu::{Machine, Running};
use segue_system_tests::paths;

/// Longer than an upgrade takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// Types a command and waits for the line that holds `answer`; yields where the console was before.
fn command(machine: &mut Running, command: &str, answer: &str) -> usize {
    let position = machine.console().position();
    let typed = machine.type_in(format!("{command}\r").as_bytes());
    typed.expect("the machine runs");
    expect_after(machine, position, answer);
    position
}

fn expect_after(machine: &Running, position: usize, text: &str) {
    let line = machine.console().wait_for_after(position, text, LIMIT);
    line.unwrap_or_else(|error| panic!("{text}: {error}\n{}", machine.console().tail()));
}

#[test]
fn another_image_takes_the_place_of_a_server_or_is_taken_back() {
    let machine = Machine::new(paths::kernel("release"), paths::image("upgrades")).memory_mib(128);
    let mut machine = machine.start().unwrap_or_else(|error| panic!("{error}"));
    let started = machine
        .console()
        .wait_for("follower: life 1 begins with 0", LIMIT);
    started.unwrap_or_else(|error| panic!("{error}"));
    let all = "mortal               segue-stillborn-waits";
    command(&mut machine, "upgrade", all);
    for (image, end) in [
        ("second", "mortal was upgraded to second, "),
        (
            "segue-stillborn-panics",
            "mortal was rolled back from segue-stillborn-panics: the new image faulted.",
        ),
        (
            "segue-stillborn-loops",
            "mortal was rolled back from segue-stillborn-loops: the new image made no progress.",
        ),
        (
            "segue-stillborn-waits",
            "mortal was rolled back from segue-stillborn-waits: the new image was not ready in time.",
        ),
        ("first", "mortal was upgraded to first, "),
        ("first", "mortal was upgraded to first, "),
        ("third", "There is no image third of mortal."),
    ] {
        let position = command(&mut machine, &format!("upgrade mortal {image}"), end);
        // Its client goes on with the one that runs.
        if image != "third" {
            expect_after(&machine, position, "begins with 0");
        }
    }
    // Six upgrades, of which three went back.
    command(
        &mut machine,
        "status",
        "mortal               running         150     76 KiB       0        9",
    );
}
