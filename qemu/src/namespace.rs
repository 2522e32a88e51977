//! A network namespace with a tap device, for one machine.
//!
//! The namespace has no name: it lives as long as this value or a process
//! inside it, so nothing is left behind however this process ends.

use std::fs::File;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;

/// The tap device inside every namespace.
pub(crate) const TAP: &str = "segue0";

const SETUP: &[&[&str]] = &[
    &["link", "set", "lo", "up"],
    &["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"],
    &["addr", "add", "10.0.2.2/24", "dev", TAP],
    // Nobody else is there who could have the address: it is good at once.
    &["addr", "add", "fd00:5e60::2/64", "dev", TAP, "nodad"],
    &["link", "set", TAP, "up"],
];

/// A network namespace that holds a tap device `segue0` with the addresses 10.0.2.2/24 and
/// fd00:5e60::2/64.
pub struct NetworkNamespace {
    file: File,
}

impl NetworkNamespace {
    /// Makes one. Needs root.
    ///
    /// # Errors
    /// [`Error::CannotStart`] says what is missing.
    pub fn new() -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::CannotStart(
                "a tap network needs root: run this with sudo, or use the network \"user\", \
                 which needs nothing."
                    .into(),
            ));
        }
        // Namespaces belong to threads: a thread of its own leaves the caller where it is.
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|error| Error::cannot_start("a new network namespace", error))?;
            let file = own_namespace()?;
            for arguments in SETUP {
                ip(arguments)?;
            }
            Ok(Self { file })
        })
        .join()
        .unwrap_or_else(|_| Err(Error::CannotStart("a new network namespace: panic".into())))
    }

    /// Path by which other processes can enter it (`nsenter --net=<path> command`).
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `action` on this thread inside the namespace. Sockets stay in the namespace in which
    /// they were made, and processes started by `action` stay in it too.
    ///
    /// # Errors
    /// If the kernel refuses the change of namespace.
    pub fn run<T>(&self, action: impl FnOnce() -> T) -> Result<T, Error> {
        let outside = own_namespace()?;
        enter(&self.file)?;
        let back = BackTo(outside);
        let result = action();
        drop(back);
        Ok(result)
    }
}

struct BackTo(File);

impl Drop for BackTo {
    fn drop(&mut self) {
        enter(&self.0).expect("a thread can return to the network namespace it came from");
    }
}

fn own_namespace() -> Result<File, Error> {
    File::open("/proc/thread-self/ns/net")
        .map_err(|error| Error::cannot_start("/proc/thread-self/ns/net", error))
}

fn enter(namespace: &File) -> Result<(), Error> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|error| Error::cannot_start("entering a network namespace", error))
}

fn ip(arguments: &[&str]) -> Result<(), Error> {
    let line = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| {
            Error::CannotStart(format!(
                "{line}: {error}. Is the package iproute2 installed? `make setup` installs it."
            ))
        })?;
    if output.status.success() {
        Ok(())
    } else {
        let message = String::from_utf8_lossy(&output.stderr);
        Err(Error::cannot_start(line, message.trim()))
    }
}
