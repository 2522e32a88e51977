//! Linux and Segue, booted on the same machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use segue_qemu::{Machine, Network, NetworkNamespace, Running};
use segue_system_tests::instructions::{Counter, Instructions};
use segue_system_tests::switching::Switcher;
use segue_system_tests::{Host, paths, systems};

use crate::guest::Guest;

/// The system that stands for Segue.
pub const SYSTEM: &str = "bench";
/// A system with 16 applications behind one address.
const MANY: &str = "many";
/// How many these are.
pub const APPLICATIONS: u16 = systems::APPLICATIONS;
/// Memory of either machine in MiB, and of those with 16 applications.
pub const MEMORY: u32 = 512;
/// See [`MEMORY`].
const MEMORY_OF_MANY: u32 = 768;
/// How long a machine may take to start. It takes seconds; this much only if it never will.
pub const BOOT: Duration = Duration::from_secs(180);
/// Linux finds the VFs' registers above 4 GiB otherwise, where QEMU does not map them (docs/hardware.md).
const HOLE: &str = "q35-pcihost.pci-hole64-size=0";
/// `iomem=relaxed` lets the first program write the card's loopback bit.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 intel_iommu=on iomem=relaxed mitigations=off";

/// A way to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Linux, the virtual function as its network card.
    Linux,
    /// Segue, through the network server.
    Server,
    /// Segue, the application drives the virtual function.
    Direct,
}

impl Side {
    /// All, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Server, Self::Direct];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Server => "server",
            Self::Direct => "direct",
        }
    }

    /// The same in words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Server => "Segue through its network server",
            Self::Direct => "Segue in direct mode",
        }
    }
}

/// Who serves, the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Files over HTTP.
    Http,
    /// Keys and values.
    Kv,
    /// Messages and datagrams come back.
    Echo,
}

impl Service {
    /// Segue's application.
    fn application(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kv => "kv",
            Self::Echo => "echo",
        }
    }

    /// Where it is.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Http => Ipv4Addr::new(10, 0, 2, 15),
            Self::Kv => systems::KV_ADDRESS,
            Self::Echo => systems::ECHO_ADDRESS,
        }
    }

    /// Its address with this port.
    pub fn at(self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), port)
    }
}

/// The machine, which is the same for all but kernel and initial memory.
fn common(machine: Machine, memory: u32) -> Machine {
    machine
        .memory_mib(memory)
        .argument("-global")
        .argument(HOLE)
        .network(Network::Tap)
}

fn linux(guest: &Guest, servers: u16) -> Machine {
    let line = format!("{COMMAND_LINE} bench.servers={servers}");
    Machine::new(&guest.kernel, &guest.initramfs)
        .argument("-append")
        .argument(line)
}

fn segue(system: &str) -> Machine {
    Machine::new(paths::kernel("release"), paths::image(system))
}

/// Milliseconds of virtual time, an instruction being a nanosecond, from power-on to the first byte of an
/// answer over HTTP.
///
/// # Errors
/// A sentence if none comes.
pub fn time_to_first_answer(guest: Option<&Guest>) -> Result<f64, String> {
    let machine = match guest {
        Some(guest) => linux(guest, 1),
        None => segue(SYSTEM),
    };
    let failed = |error: std::io::Error| format!("captured frames: {error}");
    let folder = tempfile::tempdir().map_err(failed)?;
    let capture = folder.path().join("frames");
    let machine = common(machine, MEMORY).instruction_clock(0);
    let mut running = machine
        .capture_frames(&capture)
        .start()
        .map_err(|error| error.to_string())?;
    let namespace = running
        .namespace()
        .ok_or("a machine on a tap has a namespace")?;
    let deadline = Instant::now() + BOOT;
    let address = SocketAddr::V4(Service::Http.at(80));
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(300))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /1k.bin HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    };
    while namespace
        .run(ask)
        .map_err(|error| error.to_string())?
        .is_err()
    {
        if Instant::now() > deadline {
            return Err(format!(
                "no answer from {address}:\n{}",
                running.console().tail()
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    running.stop();
    let frames = std::fs::read(&capture).map_err(failed)?;
    let time = segue_system_tests::figures::first_answer(&frames);
    Ok(time.ok_or("the first answer was not captured")? / 1e3)
}

/// A running machine with the plugin that counts.
pub struct Counted {
    running: Running,
    counter: Counter,
    namespace: Arc<NetworkNamespace>,
    patience: Duration,
}

impl Counted {
    fn start(
        (machine, counter): (Machine, Counter),
        memory: u32,
        patience: Duration,
    ) -> Result<Self, String> {
        let machine = common(machine, memory);
        let running = machine.start().map_err(|error| error.to_string())?;
        let namespace = running.namespace();
        let namespace = namespace.ok_or("a machine on a tap has a namespace")?;
        Ok(Self {
            running,
            counter,
            namespace,
            patience,
        })
    }

    /// Linux with its servers, and one nginx at port 80.
    ///
    /// # Errors
    /// A sentence with the end of the console if it does not start.
    pub fn linux(guest: &Guest) -> Result<Self, String> {
        let started = Self::start(Counter::add(linux(guest, 1)), MEMORY, guest.patience)?;
        started.expect("bench: ready")?;
        Ok(started)
    }

    /// Segue with its applications.
    ///
    /// # Errors
    /// As [`Self::linux`].
    pub fn segue() -> Result<Self, String> {
        let started = Self::start(Counter::add_profiler(segue(SYSTEM)), MEMORY, BOOT)?;
        for service in ["http", "kv", "echo"] {
            started.expect(&format!("{service}: listening on"))?;
        }
        started.expect("the virtual function is running")?;
        Ok(started)
    }

    /// Linux with one nginx at each of [`APPLICATIONS`] ports from 80 on, each a process of its own.
    ///
    /// # Errors
    /// As [`Self::linux`].
    pub fn many_on_linux(guest: &Guest) -> Result<Self, String> {
        let machine = linux(guest, APPLICATIONS);
        let started = Self::start(Counter::add(machine), MEMORY_OF_MANY, guest.patience)?;
        started.expect("bench: ready")?;
        Ok(started)
    }

    /// Segue with as many applications at the same ports.
    ///
    /// # Errors
    /// As [`Self::linux`].
    pub fn many_on_segue() -> Result<Self, String> {
        let started = Self::start(Counter::add(segue(MANY)), MEMORY_OF_MANY, BOOT)?;
        started.expect(&format!("http-{}: listening on", APPLICATIONS - 1))?;
        started.expect("the virtual function is running")?;
        Ok(started)
    }

    /// Waits for a text on the console and gives its line.
    ///
    /// # Errors
    /// A sentence with the end of the console if it does not come.
    pub fn expect(&self, text: &str) -> Result<String, String> {
        let line = self.running.console().wait_for(text, self.patience);
        line.map(|line| line.text)
            .map_err(|error| error.to_string())
    }

    /// Has the application drive a function, or not. Linux always does.
    ///
    /// # Errors
    /// If the director refuses.
    pub fn set_direct(&mut self, service: Service, direct: bool) -> Result<(), String> {
        let mut switcher = Switcher::new(&mut self.running);
        let name = service.application();
        let switched = match direct {
            true => switcher.to_direct(name),
            false => switcher.to_server(name),
        };
        switched.map(drop).map_err(|error| error.to_string())
    }

    /// Instructions since power-on.
    pub fn instructions(&mut self) -> Instructions {
        self.counter.read()
    }

    /// The plugin.
    pub fn counter(&mut self) -> &mut Counter {
        &mut self.counter
    }

    /// MiB of memory that nothing has, as Segue's console says.
    ///
    /// # Errors
    /// If it does not say.
    pub fn free_memory(&mut self) -> Result<u64, String> {
        const TEXT: &str = " MiB of memory are free.";
        let typed = self.running.type_in(b"status\r");
        typed.map_err(|error| error.to_string())?;
        let line = self.expect(TEXT)?;
        let number = line
            .split(TEXT)
            .next()
            .and_then(|line| line.rsplit(' ').next());
        let number = number.and_then(|number| number.parse().ok());
        number.ok_or(format!("the console says {line}"))
    }

    /// Its network, to be kept.
    pub fn host(&self) -> Host {
        Host::Namespace(Arc::clone(&self.namespace))
    }

    /// Its network.
    pub fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// Starts a client in the machine's network.
    ///
    /// # Errors
    /// A sentence if it is missing.
    pub fn start_client(&self, command: &mut Command) -> Result<Client, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.namespace.run(|| command.spawn());
        let child = child.map_err(|error| error.to_string())?;
        let child = child.map_err(|error| format!("{name}: {error}. `make setup` installs it."))?;
        Ok(Client { name, child })
    }
}

/// A client at work.
pub struct Client {
    name: String,
    child: Child,
}

impl Client {
    /// Waits for its end and gives what it has said.
    ///
    /// # Errors
    /// A sentence if it fails.
    pub fn wait(self) -> Result<String, String> {
        let Self { name, child } = self;
        let output = child.wait_with_output();
        let output = output.map_err(|error| format!("{name}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => Err(format!(
                "{name} failed ({}): {text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }
}

/// Whether what has to be built for Segue is there.
///
/// # Errors
/// A sentence if not.
pub fn check_built(image: &Path) -> Result<(), String> {
    match image.is_file() {
        true => Ok(()),
        false => Err(format!(
            "{} does not exist: `make bench` builds it",
            image.display()
        )),
    }
}
