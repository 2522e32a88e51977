//! The terminal as the machine's keyboard.

use std::io::{IsTerminal, Read, Write, stdin};
use std::process::ChildStdin;
use std::thread;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

/// A terminal that gives every key at once and shows none; dropping it makes it as it was.
pub struct Terminal(Termios);

/// Passes standard input on to `machine` until either ends. A terminal changes its mode meanwhile.
pub fn connect(machine: ChildStdin) -> Option<Terminal> {
    let terminal = if stdin().is_terminal() {
        // A process in the background would be stopped for touching the terminal.
        if tcgetpgrp(stdin()) != Ok(getpgrp()) {
            return None;
        }
        Some(keys_at_once()?)
    } else {
        None
    };
    // Ends with this process at the latest.
    thread::spawn(move || pass_on(machine));
    terminal
}

/// The machine shows what is typed itself. Ctrl-C goes on ending this program.
fn keys_at_once() -> Option<Terminal> {
    let before = tcgetattr(stdin()).ok()?;
    let mut mode = before.clone();
    mode.local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO);
    tcsetattr(stdin(), SetArg::TCSANOW, &mode).ok()?;
    Some(Terminal(before))
}

fn pass_on(mut machine: ChildStdin) {
    let mut keys = [0; 64];
    while let Ok(count @ 1..) = stdin().lock().read(&mut keys) {
        if machine.write_all(&keys[..count]).is_err() {
            return;
        }
    }
    // QEMU takes an end of its input for a closed line, which is nothing the machine must notice.
    std::mem::forget(machine);
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}
