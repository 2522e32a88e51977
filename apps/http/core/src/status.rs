//! What the page at `/` shows, as JSON at `/status.json`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// A protection domain.
#[derive(Clone, Debug, Serialize)]
pub struct ProtectionDomain {
    /// Its name.
    pub name: String,
    /// What it is doing: `running`, `stopped`, ...
    pub state: &'static str,
    /// Priority, 0..=254.
    pub priority: u64,
    /// Faults since the start of the machine.
    pub faults: u64,
    /// Restarts since the start of the machine.
    pub restarts: u64,
    /// Microseconds from its last stop to its last restart.
    pub outage_us: u64,
    /// Of these, those that `init` worked.
    pub rebuild_us: u64,
}

/// Why a protection domain was stopped.
#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    /// The protection domain.
    pub name: String,
    /// When, in seconds since the machine was started.
    pub at_seconds: f64,
    /// The end of a sentence that begins with its name.
    pub reason: String,
    /// How often it had been restarted before.
    pub restarts: u64,
}

/// A frame channel, seen from the network server.
#[derive(Clone, Debug, Serialize)]
pub struct FrameChannel {
    /// The application.
    pub application: String,
    /// Frames from the application.
    pub transmitted_frames: u64,
    /// Bytes of these.
    pub transmitted_bytes: u64,
    /// Frames to the application.
    pub received_frames: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Notifications sent to the application.
    pub notifications: u64,
    /// Frames that were dropped.
    pub dropped_frames: u64,
    /// `up`, `down` or `cut off`.
    pub state: &'static str,
    /// Bytes from the application that the server copied.
    pub copied_bytes: u64,
    /// Notifications from the application.
    pub notifications_received: u64,
    /// Frames to the application that found no room.
    pub receive_dropped: u64,
    /// Epochs the application was joined in.
    pub epochs: u64,
    /// Breaches of the channel's protocol.
    pub violations: u64,
    /// Frames that went from it to applications on this machine.
    pub inside_frames: u64,
    /// Frames from the application that were dropped, by cause.
    pub dropped: Counts,
}

/// The mode of an application that a director switches.
#[derive(Clone, Debug, Serialize)]
pub struct ApplicationMode {
    /// The application.
    pub name: String,
    /// `server`, `direct`, `to direct` or `to server`.
    pub mode: &'static str,
    /// The virtual function it holds, or is about to hold.
    pub function: Option<u8>,
    /// Switches that have ended, both ways.
    pub switches: u64,
    /// Switches that failed or were forced.
    pub failures: u64,
    /// How long the last switch took, in microseconds.
    pub last_switch_us: u64,
}

/// Counts by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Version of Segue.
    pub version: &'static str,
    /// Time since the machine was started, in seconds.
    pub uptime_seconds: f64,
    /// Addresses of this server.
    pub addresses: Vec<String>,
    /// All protection domains.
    pub protection_domains: Vec<ProtectionDomain>,
    /// The last stops, oldest first; left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
    /// All frame channels.
    pub frame_channels: Vec<FrameChannel>,
    /// Modes of all applications that a director switches; left out in a system without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<ApplicationMode>,
    /// Requests answered by this server with a status below 400.
    pub requests_answered: u64,
    /// Requests answered with a status of 400 or above.
    pub requests_refused: u64,
    /// Connections open now.
    pub connections: u64,
    /// The network server's counts.
    pub server: Counts,
    /// Received frames that the network server dropped, by cause.
    pub dropped: Counts,
    /// The counts of this application's own network stack.
    pub stack: Counts,
}

impl Snapshot {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Only a map with keys that are no strings can fail, and there is none.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn json(modes: Vec<ApplicationMode>) -> String {
        let snapshot = Snapshot {
            version: "1",
            uptime_seconds: 0.0,
            addresses: Vec::new(),
            protection_domains: Vec::new(),
            stops: Vec::new(),
            frame_channels: Vec::new(),
            modes,
            requests_answered: 0,
            requests_refused: 0,
            connections: 0,
            server: Counts::new(),
            dropped: Counts::new(),
            stack: Counts::new(),
        };
        String::from_utf8(snapshot.to_json()).unwrap()
    }

    #[test]
    fn modes_are_there_if_a_director_is() {
        let direct = ApplicationMode {
            name: "http".into(),
            mode: "direct",
            function: Some(1),
            switches: 3,
            failures: 1,
            last_switch_us: 1204,
        };
        let server = ApplicationMode {
            name: "kv".into(),
            mode: "server",
            function: None,
            ..direct.clone()
        };
        let text = json(vec![direct, server]);
        let modes = "\"modes\":[\
            {\"name\":\"http\",\"mode\":\"direct\",\"function\":1,\
            \"switches\":3,\"failures\":1,\"last_switch_us\":1204},\
            {\"name\":\"kv\",\"mode\":\"server\",\"function\":null,\
            \"switches\":3,\"failures\":1,\"last_switch_us\":1204}]";
        assert!(text.contains(modes), "{text}");
        assert!(!json(Vec::new()).contains("modes"));
    }
}
