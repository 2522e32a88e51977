//! What the machine is doing, for the page at `/`.

use alloc::string::String;
use alloc::vec::Vec;
use segue_http_core::Dynamic;
use segue_http_core::status::{FrameChannel, ProtectionDomain, Snapshot};
use segue_status::network::{Counter, NetworkStatus, name_text};
use segue_status::system::SystemStatus;

/// The status regions, and what the application itself counts.
pub struct Machine {
    system: Option<SystemStatus>,
    network: Option<NetworkStatus>,
    /// Requests answered and refused.
    pub requests: (u64, u64),
    /// Connections open.
    pub connections: usize,
    /// Microseconds since the machine was started.
    pub now: u64,
}

impl Machine {
    /// Reads these regions.
    pub fn new(system: segue_shared_memory::Region, network: segue_shared_memory::Region) -> Self {
        Self {
            system: SystemStatus::new(system),
            network: NetworkStatus::new(network),
            requests: (0, 0),
            connections: 0,
            now: 0,
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
            })
            .collect();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.now as f64 / 1e6,
            protection_domains,
            frame_channels,
            requests_answered: self.requests.0,
            requests_refused: self.requests.1,
            connections: self.connections as u64,
        }
    }
}

impl Dynamic for Machine {
    fn page(&mut self, path: &str) -> Option<(Vec<u8>, &'static str)> {
        (path == "/status.json").then(|| (self.snapshot().to_json(), "application/json"))
    }
}
