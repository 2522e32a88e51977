//! What the machine is doing, for the page at `/`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use segue_director_core::board::Board;
use segue_director_core::config::DirectorTable;
use segue_http_core::Dynamic;
use segue_http_core::status::{ApplicationMode, FrameChannel, ProtectionDomain, Snapshot, Stop};
use segue_libos::{Addresses, Statistics};
use segue_shared_memory::Region;
use segue_status::crash::{CrashReports, Report, SLOTS};
use segue_status::network::{
    Counter, EgressDrop, IngressDrop, NetworkStatus, ServerCounter, name_text,
};
use segue_status::symbols::Symbols;
use segue_status::system::SystemStatus;

const SERVER_COUNTERS: [(&str, ServerCounter); 11] = [
    ("received_frames", ServerCounter::ReceivedFrames),
    ("received_bytes", ServerCounter::ReceivedBytes),
    ("transmitted_frames", ServerCounter::TransmittedFrames),
    ("transmitted_bytes", ServerCounter::TransmittedBytes),
    ("interrupts", ServerCounter::Interrupts),
    ("wakeups", ServerCounter::Wakeups),
    ("device_dropped", ServerCounter::DeviceDropped),
    ("device_restarts", ServerCounter::DeviceRestarts),
    ("receive_pauses", ServerCounter::ReceivePauses),
    ("answered", ServerCounter::Answered),
    ("lost_interrupts", ServerCounter::LostInterrupts),
];

fn stack_counts(of: &Statistics) -> [(&'static str, u64); 34] {
    [
        ("frames_in", of.vif.frames_in),
        ("bytes_in", of.vif.bytes_in),
        ("frames_out", of.vif.frames_out),
        ("bytes_out", of.vif.bytes_out),
        ("refused_frames", of.vif.refused),
        ("found_late", of.vif.found_late),
        ("malformed", of.malformed),
        ("bad_checksum", of.bad_checksum),
        ("software_checksums", of.software_checksums),
        ("not_for_us", of.not_for_us),
        ("extension_headers", of.extension_headers),
        ("ignored_messages", of.ignored_messages),
        ("narrowed", of.narrowed),
        ("tcp_fragments", of.tcp_fragments),
        ("refused_segments", of.refused_segments),
        ("handshakes", of.handshakes),
        ("handshakes_lost", of.handshakes_lost),
        ("connects", of.connects),
        ("connected", of.connected),
        ("reassembled", of.reassembled),
        ("fragments_dropped", of.fragments_dropped),
        ("accepted", of.accepted),
        ("closed", of.closed),
        ("merged_acknowledgements", of.merged),
        ("retransmissions", of.retransmissions),
        ("probes", of.probes),
        ("reunions", of.reunions),
        ("time_wait_recycled", of.time_wait_recycled),
        ("parked", of.parked),
        ("resumed", of.resumed),
        ("stuck", of.stuck),
        ("delayed", of.delayed),
        ("no_buffers", of.no_buffers),
        ("no_room", of.no_room),
    ]
}

/// Where the modes of applications are shown.
#[derive(Clone, Copy)]
pub struct Modes {
    /// The applications, by their places on the board.
    pub table: &'static DirectorTable,
    /// The director's board.
    pub board: Board,
}

impl Modes {
    fn snapshot(&self) -> impl Iterator<Item = ApplicationMode> {
        let applications = self.table.applications().iter().enumerate();
        applications.map(|(index, application)| {
            let shown = self.board.shown(index);
            ApplicationMode {
                name: String::from(application.name()),
                mode: shown.mode.text(),
                function: shown.function,
                switches: shown.switches,
                failures: shown.failures,
                last_switch_us: shown.last_switch,
            }
        })
    }
}

/// Why protection domains were stopped, as far as the description lets this program see it.
#[derive(Clone, Copy, Default)]
pub struct Crashes {
    /// The last reports.
    pub reports: Option<CrashReports>,
    /// Names of functions.
    pub symbols: Option<Symbols<Region>>,
}

impl Crashes {
    /// Hands each report that is kept to `with`, oldest first.
    fn each(&self, mut with: impl FnMut(&Report)) {
        let Some(reports) = self.reports else { return };
        let last = reports.count();
        let mut report = Box::new(Report::empty());
        for sequence in last.saturating_sub(SLOTS as u64)..last {
            if reports.read(sequence + 1, &mut report) {
                with(&report);
            }
        }
    }

    fn stops(&self) -> Vec<Stop> {
        let mut stops = Vec::new();
        self.each(|report| {
            stops.push(Stop {
                name: String::from(report.name()),
                at_seconds: report.time as f64 / 1e6,
                reason: report.reason().to_string(),
                restarts: report.restarts.into(),
            });
        });
        stops
    }

    /// All reports as the console prints them.
    fn text(&self) -> String {
        let mut text = String::new();
        self.each(|report| {
            use core::fmt::Write;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "At {:.6} s, after {} restarts:",
                report.time as f64 / 1e6,
                report.restarts
            );
            let _ = report.write(self.symbols.as_ref(), &mut text);
            text.push('\n');
        });
        if text.is_empty() {
            text.push_str("Nothing has been stopped.\n");
        }
        text
    }
}

/// The status regions, and what the application itself counts.
pub struct Machine {
    system: Option<SystemStatus>,
    network: Option<NetworkStatus>,
    modes: Option<Modes>,
    crashes: Crashes,
    /// Requests answered and refused.
    pub requests: (u64, u64),
    /// Connections open.
    pub connections: usize,
    /// The addresses of the application's stack.
    pub addresses: Addresses,
    /// What the application's stack has counted.
    pub stack: Statistics,
    /// What the stack holds now.
    pub held: [(&'static str, u64); 4],
    /// Microseconds since the machine was started.
    pub now: u64,
    /// For a page that takes long.
    #[cfg(segue_fragile)]
    pub clock: Option<sel4_microkit::Clock>,
}

impl Machine {
    /// Reads these regions, and the modes in a system with a director.
    pub fn new(system: Region, network: Region, modes: Option<Modes>, crashes: Crashes) -> Self {
        Self {
            system: SystemStatus::new(system),
            network: NetworkStatus::new(network),
            modes,
            crashes,
            requests: (0, 0),
            connections: 0,
            addresses: Addresses::default(),
            stack: Statistics::default(),
            held: [("", 0); 4],
            now: 0,
            #[cfg(segue_fragile)]
            clock: None,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let protection_domains = self
            .system
            .iter()
            .flat_map(SystemStatus::domains)
            .map(|domain| ProtectionDomain {
                name: String::from(domain.name()),
                state: domain.state.text(),
                priority: domain.priority.into(),
                faults: domain.faults.into(),
                restarts: domain.restarts.into(),
                outage_us: domain.outage,
                rebuild_us: domain.rebuild,
            })
            .collect();
        let frame_channels = self
            .network
            .iter()
            .flat_map(|network| (0..network.count()).filter_map(|index| network.application(index)))
            .map(|application| FrameChannel {
                application: String::from(name_text(&application.name())),
                transmitted_frames: application.counter(Counter::TransmittedFrames),
                transmitted_bytes: application.counter(Counter::TransmittedBytes),
                received_frames: application.counter(Counter::ReceivedFrames),
                received_bytes: application.counter(Counter::ReceivedBytes),
                notifications: application.counter(Counter::NotificationsSent),
                dropped_frames: application.dropped_in_all()
                    + application.counter(Counter::ReceiveDropped),
                state: application.state().text(),
                copied_bytes: application.counter(Counter::CopiedBytes),
                notifications_received: application.counter(Counter::NotificationsReceived),
                receive_dropped: application.counter(Counter::ReceiveDropped),
                epochs: application.counter(Counter::Epochs),
                violations: application.counter(Counter::Violations),
                inside_frames: application.counter(Counter::InsideFrames),
                dropped: EgressDrop::ALL
                    .iter()
                    .map(|&cause| (cause.text(), application.dropped(cause)))
                    .collect(),
            })
            .collect();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.now as f64 / 1e6,
            addresses: {
                let Addresses { ipv4, ipv6 } = self.addresses;
                let ipv4 = ipv4.map(|network| network.address.to_string());
                let ipv6 = ipv6.map(|network| network.address.to_string());
                ipv4.into_iter().chain(ipv6).collect()
            },
            protection_domains,
            stops: self.crashes.stops(),
            frame_channels,
            modes: self.modes.iter().flat_map(Modes::snapshot).collect(),
            requests_answered: self.requests.0,
            requests_refused: self.requests.1,
            connections: self.connections as u64,
            server: self
                .network
                .iter()
                .flat_map(|network| {
                    SERVER_COUNTERS.map(|(name, counter)| (name, network.counter(counter)))
                })
                .collect(),
            dropped: self
                .network
                .iter()
                .flat_map(|network| {
                    IngressDrop::ALL
                        .iter()
                        .map(|&cause| (cause.text(), network.dropped(cause)))
                })
                .collect(),
            stack: stack_counts(&self.stack)
                .into_iter()
                .chain(self.held)
                .collect(),
        }
    }
}

impl Dynamic for Machine {
    fn page(&mut self, path: &str) -> Option<(Vec<u8>, &'static str)> {
        // Only in the test program that is built from this source (tests/pds/fragile).
        #[cfg(segue_fragile)]
        match path {
            "/fault/panic" => panic!("asked to fault"),
            "/fault/stack" => overflow(0),
            "/compute" => {
                self.compute();
                return Some((b"computed\n".to_vec(), "text/plain"));
            }
            _ => {}
        }
        match path {
            "/status.json" => Some((self.snapshot().to_json(), "application/json")),
            "/stops.txt" => Some((
                self.crashes.text().into_bytes(),
                "text/plain; charset=utf-8",
            )),
            _ => None,
        }
    }
}

#[cfg(segue_fragile)]
impl Machine {
    /// Does nothing else for two seconds.
    fn compute(&self) {
        let Some(clock) = self.clock else { return };
        log::info!("computes");
        let end = clock.now_microseconds() + 2_000_000;
        while clock.now_microseconds() < end {
            core::hint::spin_loop();
        }
        log::info!("has computed");
    }
}

/// Leaves the stack at its lower end.
#[cfg(segue_fragile)]
fn overflow(depth: u64) {
    let bytes = core::hint::black_box([depth; 64]);
    if bytes[0] == depth {
        overflow(depth + 1);
    }
    core::hint::black_box(bytes);
}
