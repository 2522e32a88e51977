//! A booted system under test.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use segue_qemu::{Error, Forward, Machine, Network, NetworkNamespace, Running};

use crate::http::{Client, Response};
use crate::{Host, PeerHost, paths};

/// How long a machine may take until it answers. It takes seconds; this much only if it never will.
const BOOT: Duration = Duration::from_secs(180);

/// What is at the other end of the machine's cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// QEMU's own network.
    User,
    /// A tap device (root only).
    Tap,
    /// A host of the test's own, with this seed.
    Peer(u64),
}

/// A booted system. A failing test prints the end of its console.
pub struct TestMachine {
    running: Running,
    host: Host,
}

/// The memory that the description of `system` asks for, in MiB.
pub fn system_memory(system: &str) -> u32 {
    let file = paths::description(system);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let memory = text
        .split_once("<machine memory=\"")
        .and_then(|(_, rest)| rest.split_once("M\""))
        .and_then(|(number, _)| number.parse().ok());
    memory.unwrap_or_else(|| panic!("{}: no <machine memory=\"...M\"/>", file.display()))
}

impl TestMachine {
    /// The machine for `system` (the name of its description without `.xml`), to be changed and
    /// then given to [`Self::start`].
    pub fn machine(system: &str) -> Machine {
        Machine::new(paths::kernel("release"), paths::image(system))
            .memory_mib(system_memory(system))
    }

    /// Boots `system` and waits until its page answers.
    pub fn boot(system: &str, cable: Cable) -> Self {
        let mut machine = Self::start(Self::machine(system), cable);
        machine.wait_until_it_answers();
        machine
    }

    /// Starts `machine` on `cable` without waiting for anything.
    pub fn start(machine: Machine, cable: Cable) -> Self {
        let network = match cable {
            Cable::User => Network::User(vec![Forward::http(None)]),
            Cable::Tap => Network::Tap,
            Cable::Peer(_) => Network::Peer,
        };
        let mut running = machine
            .network(network)
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let host = match cable {
            Cable::User => Host::Forwarded(running.host_ports()[0]),
            Cable::Tap => {
                let namespace: Arc<NetworkNamespace> = running
                    .namespace()
                    .expect("a machine on a tap has a namespace");
                Host::Namespace(namespace)
            }
            Cable::Peer(seed) => {
                let peer = running.take_peer().expect("a machine on a peer has one");
                Host::Peer(PeerHost::new(peer, seed))
            }
        };
        Self { running, host }
    }

    /// Where to connect from.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A client on a new connection.
    pub fn client(&self) -> Client<crate::Connection> {
        let connection = self.host.connect();
        Client::new(connection.unwrap_or_else(|error| panic!("no connection: {error}")))
    }

    /// Asks for `path` on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        let answer = self.client().get(path);
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Asserts that the page for people loads.
    pub fn assert_page_loads(&self) {
        let page = self.get("/");
        assert_eq!(page.status, 200);
        let text = String::from_utf8_lossy(&page.body);
        assert!(text.contains("Segue"), "not Segue's page:\n{text}");
    }

    /// The counters and states that the page shows.
    pub fn status(&self) -> serde_json::Value {
        let answer = self.get("/status.json");
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).expect("/status.json is JSON")
    }

    /// Waits for a text on the console.
    pub fn expect_line(&self, text: &str) -> String {
        let line = self.running.console().wait_for(text, BOOT);
        line.unwrap_or_else(|error| panic!("{error}")).text
    }

    /// Waits until the application has answered one request.
    pub fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + BOOT;
        loop {
            let answer = self
                .host
                .connect()
                .and_then(|connection| Client::new(connection).get("/"));
            let error = match answer {
                Ok(_) => return,
                Err(error) => error,
            };
            let ended = self.running.ended().ok().flatten();
            assert!(ended.is_none(), "QEMU ended before the page answered");
            assert!(
                Instant::now() < deadline,
                "no answer in {} s: {error}",
                BOOT.as_secs()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until QEMU ends or `text` is on the console, for systems that cannot start.
    ///
    /// # Errors
    /// As [`segue_qemu::Console::wait_for`].
    pub fn sentence(&self, text: &str) -> Result<String, Error> {
        let line = self.running.console().wait_for(text, BOOT)?;
        Ok(line.text)
    }
}

impl Deref for TestMachine {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for TestMachine {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- the console ends so:\n{}",
                self.running.console().tail()
            );
        }
    }
}
