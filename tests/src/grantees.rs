//! Systems with applications that are granted virtual functions, and orders to the director.

use std::fmt;
use std::time::Duration;

use crate::changed::{OwnImage, build_system};
use crate::switching::Switcher;
use crate::systems::{self, Place};
use crate::{Cable, PeerHost, TestMachine};

/// For busy hosts.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What a rogue grantee does in direct mode (`tests/pds/rogue-grantee`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Says what the registers read, then writes junk into them.
    Inspector = 1,
    /// Rings the doorbell, whatever it is ordered.
    Stubborn = 2,
    /// Makes the function reach for others' memory, whatever it is ordered.
    Thief = 3,
    /// Keeps what it was granted, as far as the kernel lets it.
    Hoarder = 4,
    /// Resets the function without end, whatever it is ordered.
    Restless = 5,
}

/// Which mode an application is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Through the network server.
    Server,
    /// Through a function of its own.
    Direct,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server => "server",
            Self::Direct => "direct",
        })
    }
}

/// A rogue grantee called `name` at [`Place::Own`]`(number)`, which may have `functions`. Its
/// priority is below that of other applications: it computes without end.
pub fn grantee(name: &str, behaviour: Behaviour, number: u8, functions: &str) -> String {
    let behaviour = behaviour as u8;
    let domain = format!(
        r#"
    <protection_domain name="{name}" priority="90">
        <program_image path="segue-rogue-grantee"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
        <setvar symbol="behaviour" value="{behaviour}"/>
    </protection_domain>"#
    );
    let channel = systems::frame_channel(name, "0x40000", 64, Place::Own(number));
    format!("{domain}{channel}{}", direct_mode(name, functions))
}

/// Lets an application be granted one of `functions`.
pub fn direct_mode(name: &str, functions: &str) -> String {
    format!(
        r#"
    <direct_mode application="{name}" functions="{functions}"/>
"#
    )
}

/// An image of the default system that serves test files, after `change`, with `more` in it; its
/// `http` may have `functions`.
pub fn image(
    name: &str,
    functions: &str,
    more: &str,
    change: impl FnOnce(String) -> String,
) -> OwnImage {
    let image = build_system("system", |text| {
        let text = replace(&text, "apps/http/files", "build/test-files/files");
        let anyone = r#"<direct_mode application="http"/>"#;
        let text = replace(&text, anyone, &direct_mode("http", functions));
        replace(&change(text), "</system>", &format!("{more}</system>"))
    });
    OwnImage::new(name, &image.bytes)
}

/// Replaces the one place where `from` stands.
///
/// # Panics
/// If there is none, or another one.
pub fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "the description does not have `{from}` once: adapt tests/src/grantees.rs"
    );
    text.replacen(from, to, 1)
}

/// Boots `image` with a peer at the other end of its cable, and waits until `http` answers.
pub fn boot(image: &OwnImage) -> TestMachine {
    start(image.machine())
}

/// As [`boot`], for a machine that was changed.
pub fn start(machine: segue_qemu::Machine) -> TestMachine {
    let mut machine = TestMachine::start(machine, Cable::Peer(1));
    machine.wait_until_it_answers();
    machine
}

/// The host at the other end of the cable.
pub fn peer(machine: &TestMachine) -> PeerHost {
    let peer = machine.host().peer();
    peer.expect("the cable leads to a peer").clone()
}

/// Orders a switch at the console. Returns the position on the console before it.
pub fn order(machine: &mut TestMachine, name: &str, mode: Mode) -> usize {
    let position = machine.console().position();
    let command = format!("switch {name} {mode}\r");
    let typed = machine.type_in(command.as_bytes());
    typed.expect("the console takes input");
    position
}

/// Waits until the director says, after `position`, that an application is in this mode; gives
/// the line.
pub fn expect_mode(machine: &TestMachine, position: usize, name: &str, mode: Mode) -> String {
    expect_after(
        machine,
        position,
        &format!("director: {name} is in {mode} mode"),
    )
}

/// Switches an application and waits until it is done; gives the director's line.
pub fn switch(machine: &mut TestMachine, name: &str, mode: Mode) -> String {
    let mut switcher = Switcher::new(machine);
    let line = match mode {
        Mode::Direct => switcher.to_direct(name),
        Mode::Server => switcher.to_server(name),
    };
    line.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for a text on the console after `position`; gives its line.
pub fn expect_after(machine: &TestMachine, position: usize, text: &str) -> String {
    let line = machine.console().wait_for_after(position, text, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}")).text
}

/// Lines of the console with `text`, from `position` on.
pub fn lines_after(machine: &TestMachine, position: usize, text: &str) -> Vec<String> {
    let lines = machine.console().lines();
    let found = lines.iter().skip(position);
    let found = found.filter(|line| line.text.contains(text));
    found.map(|line| line.text.clone()).collect()
}
