//! What the stack remembers about connections, in each of their stages.

use crate::config::CloseReason;
use crate::engine::{BufferSizes, Resumption, Sent};
use crate::recovery::Flight;
use crate::wire::{ETHERNET_HEADER, FlowKey, PeerOptions, before};
use smoltcp::time::{Duration, Instant};

/// The Ethernet header that answers a frame.
pub type Link = [u8; ETHERNET_HEADER];

/// The Ethernet header of frames to where `frame` came from.
#[inline]
pub fn link_back(frame: &[u8]) -> Link {
    let mut link = [0; ETHERNET_HEADER];
    link[..6].copy_from_slice(&frame[6..12]);
    link[6..12].copy_from_slice(&frame[..6]);
    link[12..].copy_from_slice(&[0x08, 0x00]);
    link
}

/// Where in the stack a connection's name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a handshake.
    Handshake(u32),
    /// To a connection.
    Connection(u32),
    /// To what is left of one.
    TimeWait(u32),
}

/// What a connection lives by, whoever opened it.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub buffers: BufferSizes,
    pub handshake_timeout: Duration,
    pub timeout: Option<Duration>,
    pub keep_alive: Option<Duration>,
    pub linger: Duration,
}

/// An established connection.
pub struct Connection {
    pub key: FlowKey,
    pub link: Link,
    /// The local port, by its index.
    pub port: u32,
    /// The engine it holds; none while it is parked or has ended.
    pub engine: Option<usize>,
    /// From the engine's sequence numbers to those of the wire.
    pub offset: u32,
    /// After the last byte sent.
    pub send_next: u32,
    /// After the last byte acknowledged.
    pub receive_next: u32,
    /// The peer's last window field.
    pub window: u16,
    pub flight: Flight,
    pub peer: PeerOptions,
    pub last_activity: Instant,
    pub last_challenge: Option<Instant>,
    /// When it must end because the peer does not close, after `close`.
    pub linger_until: Option<Instant>,
    pub deadline: Option<Instant>,
    pub armed: Option<Instant>,
    pub touched: bool,
    pub queued: bool,
    pub announced: bool,
    /// Bytes have come in since the application was last told.
    pub fresh: bool,
    pub wants_room: bool,
    pub close_requested: bool,
    pub abort_requested: bool,
    pub starved: bool,
    pub end_reported: bool,
    pub ended: Option<CloseReason>,
}

impl Connection {
    /// Whether it was accepted and the application does not know of it yet.
    pub fn is_new(&self) -> bool {
        !self.announced
    }

    /// Notes what its engine has sent. Returns whether it was sent before.
    #[inline]
    pub fn note(&mut self, sent: &Sent, now: Instant) -> bool {
        self.receive_next = sent.acknowledgement;
        if before(self.send_next, sent.end) {
            self.flight.sent(self.send_next, sent.end, now);
            self.send_next = sent.end;
            false
        } else {
            sent.occupies
        }
    }

    /// Whether all that has come in is acknowledged.
    pub fn has_acknowledged(&self) -> bool {
        self.receive_next == self.flight.received
    }

    /// What a fresh engine needs to go on with it.
    pub fn resumption(&self) -> Resumption {
        Resumption {
            key: self.key,
            send_next: self.send_next,
            receive_next: self.receive_next,
            window: self.window,
            peer: self.peer,
        }
    }
}

/// A handshake: our SYN is sent and not yet acknowledged.
pub struct Handshake {
    pub key: FlowKey,
    pub link: Link,
    /// The local port, by its index.
    pub port: u32,
    /// Our initial sequence number.
    pub ours: u32,
    /// The peer's initial sequence number.
    pub theirs: u32,
    pub peer: PeerOptions,
    pub begun: Instant,
    pub tries: u32,
    pub armed: Option<Instant>,
}

/// What is left of a connection that both sides have closed, we first (RFC 9293,
/// 3.6.1).
pub struct TimeWait {
    pub key: FlowKey,
    /// The local port, by its index.
    pub port: u32,
    pub send_next: u32,
    pub receive_next: u32,
    /// The SYN of a peer that wants the name for a new connection.
    pub wanted: Option<(u32, PeerOptions)>,
}
