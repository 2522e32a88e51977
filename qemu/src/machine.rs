//! The machine: what it consists of, starting it, ending it.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use tempfile::TempDir;

use crate::{Console, Error, Network, NetworkNamespace, Peer, Qmp, namespace};

/// Numbers under which QEMU finds the sockets handed to it.
const QMP_DESCRIPTOR: i32 = 10;
const PEER_DESCRIPTOR: i32 = 11;

/// Everything that QEMU can emulate, but for the instructions that compute SHA-256: those of QEMU 10
/// go on while the kernel has the floating point unit switched off, and their results are lost
/// (docs/hardware.md).
const PROCESSOR: &str = "max,sha-ni=off";

/// MAC address of the physical function. Virtual functions get theirs from the system description.
const MAC: &str = "52:54:00:5e:5f:00";

/// QEMU's own network: its host has the addresses that the tap device has.
const USER_NETWORK: &str =
    "net=10.0.2.0/24,host=10.0.2.2,ipv6-net=fd00:5e60::/64,ipv6-host=fd00:5e60::2";

/// The machine's calendar begins at 0 and goes with its clock: a capture's times are the calendar's
/// when QEMU starts, plus the virtual time since then.
const CALENDAR: &str = "base=1970-01-01T00:00:00,clock=vm";

/// Exit code of QEMU for a value `v` written to the debug exit device: 2 v + 1.
const DEBUG_EXIT: &str = "isa-debug-exit,iobase=0x501,iosize=2";

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: PathBuf,
    image: PathBuf,
    memory_mib: u32,
    network: Network,
    iommu: bool,
    debug_exit: bool,
    echo: bool,
    instruction_clock: Option<u8>,
    traces: Vec<String>,
    plugin: Option<OsString>,
    capture: Option<PathBuf>,
    memory_file: Option<PathBuf>,
    debugger: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl Machine {
    /// A machine with 256 MiB, VT-d, and the network `user` without a forwarded port, that boots
    /// `kernel` (an elf32 file) with the root task's image `image`.
    pub fn new(kernel: impl Into<PathBuf>, image: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            image: image.into(),
            memory_mib: 256,
            network: Network::User(Vec::new()),
            iommu: true,
            debug_exit: false,
            echo: false,
            instruction_clock: None,
            traces: Vec::new(),
            plugin: None,
            capture: None,
            memory_file: None,
            debugger: None,
            arguments: Vec::new(),
        }
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mebibytes: u32) -> Self {
        self.memory_mib = mebibytes;
        self
    }

    /// What the NIC is connected to.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Whether there is an IOMMU (VT-d).
    #[must_use]
    pub fn iommu(mut self, present: bool) -> Self {
        self.iommu = present;
        self
    }

    /// Adds a device at IO port 0x501: writing the byte `v` ends QEMU with exit code 2 v + 1.
    #[must_use]
    pub fn debug_exit(mut self) -> Self {
        self.debug_exit = true;
        self
    }

    /// Prints the console on standard output as it comes.
    #[must_use]
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Makes virtual time count instructions: 2^`shift` ns each. What the machine measures with its
    /// clocks, and the times in a capture, then do not depend on how fast the host is. While the
    /// machine has nothing to do, virtual time goes on as the host's does, so that there is somebody
    /// for traffic from outside to talk to (`sleep=off` would skip such times).
    #[must_use]
    pub fn instruction_clock(mut self, shift: u8) -> Self {
        self.instruction_clock = Some(shift);
        self
    }

    /// Switches a QEMU trace event on; [`Running::trace`] reads what it wrote.
    #[must_use]
    pub fn trace(mut self, event: &str) -> Self {
        self.traces.push(event.to_owned());
        self
    }

    /// Loads a QEMU plugin with arguments such as `socket=/tmp/x`.
    #[must_use]
    pub fn plugin(mut self, file: &Path, arguments: &str) -> Self {
        let mut option = OsString::from(file);
        if !arguments.is_empty() {
            option.push(",");
            option.push(arguments);
        }
        self.plugin = Some(option);
        self
    }

    /// Writes all frames, both ways, into a file that Wireshark and tcpdump read. Times in it are
    /// virtual, from 0 when the machine was switched on.
    #[must_use]
    pub fn capture_frames(mut self, file: impl Into<PathBuf>) -> Self {
        self.capture = Some(file.into());
        self
    }

    /// Has the machine's memory be this file, which is made: byte n of it is the memory's byte at the
    /// physical address n. Whoever reads it sees what the machine writes. What is written into it the
    /// machine reads, too, but for instructions that QEMU has translated before: see
    /// [`Self::debugger`].
    #[must_use]
    pub fn memory_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.memory_file = Some(file.into());
        self
    }

    /// Has QEMU's debugger stub listen on this socket, which is made. While somebody is connected the
    /// machine stands still, unless it is told to go on.
    #[must_use]
    pub fn debugger(mut self, socket: impl Into<PathBuf>) -> Self {
        self.debugger = Some(socket.into());
        self
    }

    /// Adds an argument to QEMU's command line.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts QEMU. It ends with the thread that calls this, however that ends.
    ///
    /// # Errors
    /// [`Error::CannotStart`] with a sentence that says what is missing or in the way.
    pub fn start(self) -> Result<Running, Error> {
        for (file, what) in [(&self.kernel, "kernel"), (&self.image, "image")] {
            if !file.is_file() {
                return Err(Error::CannotStart(format!(
                    "the {what} {} does not exist: `make image` builds it.",
                    file.display()
                )));
            }
        }
        let directory = tempfile::Builder::new()
            .prefix("segue-machine-")
            .tempdir()
            .map_err(|error| Error::cannot_start("a temporary folder", error))?;
        let namespace = match &self.network {
            Network::User(forwards) => {
                for forward in forwards {
                    forward.check_free()?;
                }
                None
            }
            Network::Tap => Some(Arc::new(NetworkNamespace::new()?)),
            // QEMU itself would start all the same, with a cable that leads nowhere.
            Network::PeerSocket(path) if !path.exists() => {
                return Err(Error::CannotStart(format!(
                    "nobody listens on the peer's socket {}: start the peer first.",
                    path.display()
                )));
            }
            Network::NoDevice | Network::Peer | Network::PeerSocket(_) => None,
        };

        let (qmp, qmp_end) = socket_pair()?;
        let mut descriptors = vec![mapping(qmp_end, QMP_DESCRIPTOR)];
        let mut peer = None;
        if self.network == Network::Peer {
            let (ours, theirs) = socket_pair()?;
            descriptors.push(mapping(theirs, PEER_DESCRIPTOR));
            let new =
                Peer::new(ours).map_err(|error| Error::cannot_start("the network peer", error))?;
            peer = Some(new);
        }
        // If this process is killed, the kernel ends QEMU too.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program())
            .args(self.command_line(directory.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for this process, which then ends QEMU.
            .process_group(0);
        command
            .fd_mappings(descriptors)
            .map_err(|error| Error::cannot_start("QEMU's sockets", error))?;
        let mut console = Console::new();
        let spawned = match &namespace {
            Some(namespace) => namespace.run(|| command.spawn())?,
            None => command.spawn(),
        };
        // `command` holds QEMU's ends of the sockets; only QEMU may, so that its end is noticed.
        drop(command);
        let mut child = spawned.map_err(|error| {
            Error::CannotStart(format!(
                "QEMU does not start (setpriv: {error}). `make setup` installs what is missing."
            ))
        })?;
        let output = child.stdout.take().expect("standard output is piped");
        let messages = child.stderr.take().expect("standard error is piped");
        console.collect(output, "", self.echo);
        console.collect(messages, "qemu: ", self.echo);

        let mut running = Running {
            child,
            console,
            qmp: None,
            peer,
            namespace,
            host_ports: Vec::new(),
            directory,
        };
        match Qmp::new(qmp) {
            Ok(qmp) => running.qmp = Some(qmp),
            Err(error) => {
                running.stop();
                return Err(Error::CannotStart(format!(
                    "QEMU did not start: {error} It said:\n{}\n\
                     Segue needs QEMU 9 or later with the igb device; `make setup` installs it.",
                    running.console.tail()
                )));
            }
        }
        if let Network::User(forwards) = &self.network
            && !forwards.is_empty()
        {
            running.host_ports = running.forwarded_ports(forwards)?;
        }
        Ok(running)
    }

    fn command_line(&self, directory: &Path) -> Vec<OsString> {
        let mut line: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: &str| {
            line.push(option.into());
            if !value.is_empty() {
                line.push(value.into());
            }
        };
        add("-nodefaults", "");
        add("-no-user-config", "");
        add("-no-reboot", "");
        add("-display", "none");
        add("-machine", "q35,kernel-irqchip=split");
        add("-accel", "tcg");
        add("-cpu", PROCESSOR);
        add("-smp", "1");
        add("-m", &self.memory_mib.to_string());
        if self.iommu {
            add("-device", "intel-iommu,intremap=off");
        }
        add("-chardev", "stdio,id=console,signal=off");
        add("-serial", "chardev:console");
        add("-chardev", &format!("socket,id=qmp,fd={QMP_DESCRIPTOR}"));
        add("-mon", "chardev=qmp,mode=control");
        if let Some(backend) = self.network_backend() {
            add("-netdev", &backend);
            let device = format!("igb,bus=pcie.0,addr=3.0,netdev=cable,mac={MAC}");
            add("-device", &device);
        }
        if self.debug_exit {
            add("-device", DEBUG_EXIT);
        }
        if let Some(shift) = self.instruction_clock {
            add("-icount", &format!("shift={shift}"));
        }
        if !self.traces.is_empty() {
            for event in &self.traces {
                add("-trace", event);
            }
            let file = trace_file(directory);
            line.extend(["-D".into(), file.into()]);
        }
        if let Some(plugin) = &self.plugin {
            line.extend(["-plugin".into(), plugin.clone()]);
        }
        if let Some(file) = &self.capture {
            let mut filter = OsString::from("filter-dump,id=capture,netdev=cable,file=");
            filter.push(file);
            line.extend(["-object".into(), filter]);
            line.extend(["-rtc".into(), CALENDAR.into()]);
        }
        if let Some(file) = &self.memory_file {
            let size = self.memory_mib;
            let mut backend = OsString::from(format!(
                "memory-backend-file,id=memory,size={size}M,share=on,mem-path="
            ));
            backend.push(file);
            line.extend(["-object".into(), backend]);
            line.extend(["-machine".into(), "memory-backend=memory".into()]);
        }
        if let Some(socket) = &self.debugger {
            let mut server = OsString::from("unix:");
            server.push(socket);
            server.push(",server=on,wait=off");
            line.extend(["-gdb".into(), server]);
        }
        line.extend(["-kernel".into(), self.kernel.clone().into()]);
        line.extend(["-initrd".into(), self.image.clone().into()]);
        line.extend(self.arguments.iter().cloned());
        line
    }

    fn network_backend(&self) -> Option<String> {
        Some(match &self.network {
            Network::NoDevice => return None,
            Network::User(forwards) => {
                let mut backend = format!("user,id=cable,{USER_NETWORK}");
                for forward in forwards {
                    backend += &forward.option();
                }
                backend
            }
            Network::Tap => format!(
                "tap,id=cable,ifname={},script=no,downscript=no,vnet_hdr=on",
                namespace::TAP
            ),
            Network::Peer => {
                format!("stream,id=cable,server=off,addr.type=fd,addr.str={PEER_DESCRIPTOR}")
            }
            Network::PeerSocket(path) => format!(
                "stream,id=cable,server=off,addr.type=unix,addr.path={}",
                path.display()
            ),
        })
    }
}

/// A running machine. Dropping it ends it.
pub struct Running {
    child: Child,
    console: Console,
    qmp: Option<Qmp>,
    peer: Option<Peer>,
    namespace: Option<Arc<NetworkNamespace>>,
    host_ports: Vec<u16>,
    directory: TempDir,
}

impl Running {
    /// What the machine has printed.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// QEMU's control connection.
    pub fn qmp(&mut self) -> &mut Qmp {
        self.qmp
            .as_mut()
            .expect("a machine that started has its QMP connection")
    }

    /// The network peer, once, if the network is [`Network::Peer`].
    pub fn take_peer(&mut self) -> Option<Peer> {
        self.peer.take()
    }

    /// The network namespace, if the network is [`Network::Tap`].
    pub fn namespace(&self) -> Option<Arc<NetworkNamespace>> {
        self.namespace.clone()
    }

    /// The ports of 127.0.0.1 that lead into the machine, in the order of the forwards asked for.
    pub fn host_ports(&self) -> &[u16] {
        &self.host_ports
    }

    /// Process id of QEMU.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A folder that goes away with the machine.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The lines that the trace events have written so far.
    ///
    /// # Errors
    /// If the trace file cannot be read, for instance because no trace was asked for.
    pub fn trace(&self) -> std::io::Result<Vec<String>> {
        let text = std::fs::read(trace_file(self.directory.path()))?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Types into the serial line.
    ///
    /// # Errors
    /// If QEMU has ended, or somebody else has the keyboard.
    pub fn type_in(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let input = self.child.stdin.as_mut();
        let input = input.ok_or_else(|| std::io::Error::other("the keyboard was taken"))?;
        input.write_all(bytes)?;
        input.flush()
    }

    /// The serial line's keyboard, once, for a thread that types.
    pub fn take_keyboard(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether QEMU has ended, and how.
    ///
    /// # Errors
    /// If the operating system cannot say.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until QEMU ends by itself.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `timeout`.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self
                .ended()
                .map_err(|error| Error::Protocol(format!("waiting for QEMU: {error}")))?;
            if let Some(status) = state {
                self.console.finish();
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut {
                    awaited: "the end of QEMU".into(),
                    after: timeout,
                    console: self.console.tail(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the machine and gives all that it has printed.
    pub fn stop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.console.finish();
    }

    fn forwarded_ports(&mut self, forwards: &[crate::Forward]) -> Result<Vec<u16>, Error> {
        let listing = self.qmp().human_command("info usernet")?;
        forwards
            .iter()
            .map(|forward| match forward.host_port {
                Some(port) => Ok(port),
                None => forwarded_port(&listing, forward).ok_or_else(|| {
                    Error::Protocol(format!("QEMU lists no forwarded port:\n{listing}"))
                }),
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds the host port of `forward` in `info usernet`: lines of
/// `TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15 80  0 0`.
fn forwarded_port(listing: &str, forward: &crate::Forward) -> Option<u16> {
    let target = [forward.address.to_string(), forward.port.to_string()];
    listing.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            ["TCP[HOST_FORWARD]", _, "127.0.0.1", host, address, port, ..]
                if [address, port] == target =>
            {
                host.parse().ok()
            }
            _ => None,
        }
    })
}

fn program() -> OsString {
    std::env::var_os("SEGUE_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into())
}

fn trace_file(directory: &Path) -> PathBuf {
    directory.join("trace.log")
}

fn socket_pair() -> Result<(UnixStream, UnixStream), Error> {
    UnixStream::pair().map_err(|error| Error::cannot_start("a pair of sockets", error))
}

fn mapping(socket: UnixStream, number: i32) -> FdMapping {
    FdMapping {
        parent_fd: OwnedFd::from(socket),
        child_fd: number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Forward;

    #[test]
    fn the_forwarded_port_is_found() {
        let listing = "Hub -1 (cable):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
             TCP[HOST_FORWARD]  14       127.0.0.1 38219       10.0.2.15    80     0     0\n";
        assert_eq!(forwarded_port(listing, &Forward::http(None)), Some(38219));
        let other = Forward {
            port: 81,
            ..Forward::http(None)
        };
        assert_eq!(forwarded_port(listing, &other), None);
    }

    #[test]
    fn a_missing_image_is_a_sentence() {
        let Err(error) = Machine::new("/proc/self/exe", "/nowhere/image.elf").start() else {
            panic!("the machine started without an image");
        };
        assert!(
            error
                .to_string()
                .contains("the image /nowhere/image.elf does not exist"),
            "{error}"
        );
    }

    fn line(machine: Machine) -> String {
        let arguments = machine.command_line(Path::new("/tmp"));
        let arguments = arguments.iter();
        arguments
            .map(|argument| argument.to_string_lossy() + " ")
            .collect()
    }

    #[test]
    fn a_capture_is_of_the_cable_and_begins_at_zero() {
        let machine = Machine::new("k", "i");
        let without = line(machine.clone());
        assert!(!without.contains("-rtc") && !without.contains("-icount"));
        for network in [Network::User(Vec::new()), Network::Tap, Network::Peer] {
            let machine = machine.clone().network(network.clone());
            let with = line(machine.instruction_clock(0).capture_frames("/tmp/c.pcap"));
            assert!(with.contains(",id=cable,"), "{network:?}");
            assert!(with.contains("-object filter-dump,id=capture,netdev=cable,file=/tmp/c.pcap "));
            assert!(with.contains("-rtc base=1970-01-01T00:00:00,clock=vm "));
            assert!(with.contains("-icount shift=0 "));
        }
    }

    #[test]
    fn a_machine_without_iommu_and_nic_has_neither() {
        let machine = Machine::new("k", "i");
        let full = line(machine.clone());
        assert!(full.contains("-device intel-iommu,intremap=off"));
        assert!(full.contains("-device igb,bus=pcie.0,addr=3.0,netdev=cable"));
        assert!(full.contains("-netdev user,id=cable,net=10.0.2.0/24,host=10.0.2.2,ipv6-net="));
        let bare = line(machine.iommu(false).network(Network::NoDevice));
        assert!(!bare.contains("iommu") && !bare.contains("igb") && !bare.contains("netdev"));
    }
}
