//! What the stack remembers about connections, in each of their stages.

use crate::address::FlowKey;
use crate::config::CloseReason;
use crate::engine::{BufferSizes, Resumption, Sent};
use crate::opening::Opening;
use crate::recovery::Flight;
use crate::wire::{ETHERNET_HEADER, PeerOptions, before};
use alloc::boxed::Box;
use core::net::IpAddr;
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};

/// An engine's shortest timeout (smoltcp's constant).
const ENGINE_TIMEOUT: Duration = Duration::from_secs(1);

/// The Ethernet header that answers a frame.
pub type Link = [u8; ETHERNET_HEADER];

/// The Ethernet header of frames to where `frame` came from, of the same type.
#[inline]
pub fn link_back(frame: &[u8]) -> Link {
    let mut link = [0; ETHERNET_HEADER];
    link[..6].copy_from_slice(&frame[6..12]);
    link[6..12].copy_from_slice(&frame[..6]);
    link[12..].copy_from_slice(&frame[12..14]);
    link
}

/// The Ethernet header of frames from `hardware` to a peer whose hardware address is
/// to be found yet.
pub fn link_to(hardware: &[u8; 6], peer: &IpAddr) -> Link {
    let mut link = [0; ETHERNET_HEADER];
    link[6..12].copy_from_slice(hardware);
    link[12..].copy_from_slice(match peer {
        IpAddr::V4(_) => &[0x08, 0x00],
        IpAddr::V6(_) => &[0x86, 0xdd],
    });
    link
}

/// Where in the stack a connection's name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a handshake.
    Handshake(u32),
    /// To a connection.
    Connection(u32),
    /// To a connection that is being opened.
    Opening(u32),
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
    /// Whether we have opened it, or try to.
    pub active: bool,
    /// What is under way to open it, or was when it ended.
    pub opening: Option<Box<Opening>>,
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
    /// One that was accepted, or, with `opening` set later, one to be opened.
    pub fn new(key: FlowKey, link: Link, port: u32, peer: PeerOptions, now: Instant) -> Self {
        Self {
            key,
            link,
            port,
            engine: None,
            offset: 0,
            send_next: 0,
            receive_next: 0,
            window: 0,
            flight: Flight::new(0, 0, now),
            peer,
            last_activity: now,
            last_challenge: None,
            linger_until: None,
            deadline: None,
            armed: None,
            touched: false,
            queued: false,
            active: false,
            opening: None,
            announced: false,
            fresh: false,
            wants_room: false,
            close_requested: false,
            abort_requested: false,
            starved: false,
            end_reported: false,
            ended: None,
        }
    }

    /// One that we open.
    pub fn opening(key: FlowKey, link: Link, port: u32, opening: Opening, now: Instant) -> Self {
        Self {
            active: true,
            opening: Some(Box::new(opening)),
            ..Self::new(key, link, port, PeerOptions::parse(&[]), now)
        }
    }

    /// The handshake is complete: the next sequence numbers, and the peer's window.
    pub fn opened(&mut self, send_next: u32, receive_next: u32, window: u16, now: Instant) {
        self.send_next = send_next;
        self.receive_next = receive_next;
        self.window = window;
        self.flight = Flight::new(send_next, receive_next, now);
        self.last_activity = now;
    }

    /// Whether it was accepted and the application does not know of it yet.
    pub fn is_new(&self) -> bool {
        !self.announced && !self.active
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

    /// Whether the engine has bytes that were never sent.
    #[inline]
    pub fn has_unsent(&self, engine: &tcp::Socket<'_>) -> bool {
        let in_flight = self.send_next.wrapping_sub(self.flight.first);
        engine.send_queue() > in_flight as usize
    }

    /// When a probe is due for what has just been sent, if the engine, whose bytes are all on their
    /// way, has nothing to do before that: all that it waits for is its own timeout.
    #[inline]
    pub fn probe_before(&self, engine: &tcp::Socket<'_>, now: Instant) -> Option<Instant> {
        if engine.state() != tcp::State::Established {
            return None;
        }
        self.probe_at()
            .filter(|probe| *probe <= now + ENGINE_TIMEOUT)
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
