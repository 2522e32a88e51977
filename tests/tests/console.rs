//! Timer, console and crash reports, on a system of just these and a client.

use std::time::Duration;

use segue_qemu::Running;
use segue_system_tests::TestMachine;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn boot(system: &str) -> Running {
    let machine = TestMachine::machine(system).start();
    machine.unwrap_or_else(|error| panic!("{error}"))
}

fn expect(machine: &Running, text: &str) -> String {
    let line = machine.console().wait_for(text, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}")).text
}

#[test]
fn every_timeout_comes_and_a_panic_is_reported_with_its_callers() {
    let machine = boot("timer");
    for wanted in ["0", "1", "100", "1000", "20000", "100000"] {
        for client in ["ticker", "tocker"] {
            expect(&machine, &format!("{client}: {wanted} us took "));
        }
    }
    expect(&machine, "ticker: warning: done");
    expect(&machine, ": as asked for");
    expect(&machine, "ticker was stopped: ");
    // The program's own entry is the outermost function of the backtrace.
    expect(&machine, " _start+0x");
    let text = machine.console().text();
    let (before, after) = text
        .split_once("ticker was stopped: ")
        .expect("it was waited for");
    assert!(
        before.contains("ticker: panicked at "),
        "the panic's message comes first"
    );
    assert!(
        after.contains("segue_ticker::"),
        "functions have names:\n{after}"
    );
    // A refused call or a signal for a cancelled timeout would have ended it earlier.
    for client in ["\nticker: ", "\ntocker: "] {
        let lines = text
            .split(client)
            .filter(|rest| rest.lines().next().unwrap_or("").contains(" us took "));
        assert_eq!(lines.count(), 6);
    }
}

#[test]
fn the_operator_is_answered_while_a_protection_domain_is_stopped() {
    let mut machine = boot("timer");
    expect(&machine, "ticker was stopped: ");
    expect(&machine, " _start+0x");
    let before = machine.console().position();
    // A correction, then the command.
    machine
        .type_in(b"sx\x7ftatus\r")
        .expect("the console takes input");
    let answered = machine
        .console()
        .wait_for_after(before, "MiB of memory are free.", LIMIT);
    answered.unwrap_or_else(|error| panic!("{error}"));
    let text = machine.console().text();
    let state = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name:<20} ")));
        let mut words = line
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
            .split_whitespace();
        (words.nth(1), words.nth(3))
    };
    assert_eq!(
        state("ticker"),
        (Some("stopped"), Some("1")),
        "state and faults"
    );
    assert_eq!(state("tocker"), (Some("running"), Some("0")));
    assert_eq!(state("timer"), (Some("running"), Some("0")));
    assert_eq!(state("console"), (Some("running"), Some("0")));
    machine
        .type_in(b"nonsense\r")
        .expect("the console takes input");
    expect(&machine, "There is no command \"nonsense\".");
}

#[test]
fn a_flood_of_rubbish_hides_nothing_and_forges_nothing() {
    let mut machine = boot("babbler");
    // The flood costs time, but the others' lines come, and so do crash reports and the
    // operator's answer.
    expect(&machine, "ticker: warning: done");
    expect(&machine, "ticker was stopped: ");
    expect(&machine, " _start+0x");
    machine
        .type_in(b"\rstatus\r")
        .expect("the console takes input");
    expect(&machine, "babbler              running");
    let text = machine.console().text();
    let escaped = "\\x0d\\x1b[2K\\x1b[1Aticker: all is well\\x07";
    let shown = |line: &str| line.starts_with("babbler: ") && line.contains(escaped);
    assert!(text.lines().any(shown), "the rubbish is shown escaped");
    // The last one may be under way, in the middle of what clears the prompt.
    let (complete, _) = text.rsplit_once('\n').expect("there are lines");
    for line in complete.lines() {
        // The console itself clears the line of the prompt, nobody else.
        let line = line.rsplit("\x1b[K").next().unwrap_or("").replace('\r', "");
        let forged = line.starts_with("ticker: all is well");
        assert!(!forged, "a line of the ticker's that it did not write");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    assert!(text.contains("bytes of its log are lost)"));
}
