//! Active opens: connections that the application begins.
//!
//! A connection that is being opened has its name and its place among the
//! connections, but no engine: it is a SYN, and a timer that repeats it. When the
//! peer has answered, it is like one that was accepted.

use crate::address::{Address, FlowKey};
use crate::classify::Quoted;
use crate::config::{BindError, CloseReason, ConnectError, ConnectOptions, ConnectionId, Protocol};
use crate::connection::{Connection, Place, link_back, link_to};
use crate::handshake::{maximum_segment, window_field};
use crate::neighbours::{self, Found};
use crate::stack::Stack;
use crate::timers::Timer;
use crate::vif::Offload;
use crate::wire::{ACK, Control, PeerOptions, RST, SYN, Segment, TCP_HEADER};
use core::net::{IpAddr, SocketAddr};
use smoltcp::time::{Duration, Instant};

/// Time to the first repetition of a SYN; it doubles with each (RFC 6298, 2).
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A hardware address that brought no answer to so many SYNs is asked for anew.
const SYNS_BEFORE_DOUBT: u32 = 2;
/// Ports that the authority may give us although we have them, in a row.
const PORT_TRIES: usize = 64;

/// A connection that is not open yet.
pub struct Opening {
    /// Our initial sequence number.
    ours: u32,
    /// The peer's initial sequence number, if it has sent a SYN without having
    /// got ours: both open at once (RFC 9293, 3.5).
    theirs: Option<u32>,
    begun: Instant,
    /// SYNs sent.
    sent: u32,
    /// Whether it waits for a hardware address.
    resolving: bool,
    /// To whom frames go, unless to ourselves.
    next_hop: Option<IpAddr>,
}

impl Stack {
    /// Opens a connection to `remote`. There will be an [`crate::Event::Connected`], or
    /// an [`crate::Event::Closed`] with the reason why not. Before, nothing can be sent
    /// or received.
    pub fn connect(
        &mut self,
        remote: SocketAddr,
        options: ConnectOptions,
    ) -> Result<ConnectionId, ConnectError> {
        if !options.buffers.are_usable() || remote.port() == 0 {
            return Err(ConnectError::Invalid);
        }
        let (local, next_hop) = self.route(remote.ip())?;
        if self.connections.is_full() {
            return Err(ConnectError::TooManyConnections);
        }
        let avoid = (remote.ip() == local).then_some(remote.port());
        let number = self.take_port(options.local_port, avoid)?;
        let Some(key) = FlowKey::new(SocketAddr::new(local, number), remote) else {
            self.authority.release(Protocol::Tcp, number);
            return Err(ConnectError::Invalid);
        };
        let port = self.add_port(number, options.terms());
        self.use_port(port);
        let opening = Opening {
            ours: self.initial_sequence(&key),
            theirs: None,
            begun: self.now,
            sent: 0,
            resolving: false,
            next_hop,
        };
        let link = link_to(&self.local.hardware, &remote.ip());
        let connection = Connection::opening(key, link, port, opening, self.now);
        let Some(index) = self.connections.insert(connection) else {
            self.leave_port(port);
            return Err(ConnectError::TooManyConnections);
        };
        self.statistics.connects += 1;
        self.table.insert(key, Place::Opening(index));
        self.go_on_opening(index);
        Ok(ConnectionId {
            index,
            generation: self.connections.generation(index),
        })
    }

    /// A local port that nothing of ours uses.
    fn take_port(&mut self, wanted: Option<u16>, avoid: Option<u16>) -> Result<u16, BindError> {
        if let Some(port) = wanted {
            if port == 0 || Some(port) == avoid {
                return Err(BindError::Invalid);
            }
            if self.port_numbers.contains_key(&port) {
                return Err(BindError::AddressInUse);
            }
            self.authority.bind(Protocol::Tcp, port)?;
            return Ok(port);
        }
        for _ in 0..PORT_TRIES {
            let port = self.authority.bind_any(Protocol::Tcp)?;
            if self.port_numbers.contains_key(&port) {
                // An authority that does not keep count; what is ours stays ours.
                continue;
            }
            if Some(port) != avoid {
                return Ok(port);
            }
            self.authority.release(Protocol::Tcp, port);
        }
        Err(BindError::AddressInUse)
    }

    /// Our address towards `remote`, and whose hardware address is needed.
    fn route(&self, remote: IpAddr) -> Result<(IpAddr, Option<IpAddr>), ConnectError> {
        let address = Address::from(remote);
        if !address.is_host() || self.local.is_broadcast(address) {
            return Err(ConnectError::Invalid);
        }
        // Another application may share our address.
        if self.local.has(address) {
            return Ok((remote, None));
        }
        let local = self
            .local
            .source_for(address)
            .ok_or(ConnectError::NoRoute)?;
        let next_hop = self.local.next_hop(address).ok_or(ConnectError::NoRoute)?;
        Ok((local.ip(), Some(next_hop.ip())))
    }

    /// Takes the next step: asks for the hardware address, or sends a SYN.
    pub(crate) fn go_on_opening(&mut self, index: u32) {
        let now = self.now;
        let hardware = self.local.hardware;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection.ended.is_some() {
            return;
        }
        let Some(opening) = &mut connection.opening else {
            return;
        };
        let Some(port) = self.ports.get(connection.port) else {
            return;
        };
        let give_up = opening.begun + port.terms.handshake_timeout;
        let buffer = port.terms.buffers.receive;
        if now >= give_up {
            return self.end(index, CloseReason::TimedOut);
        }
        // Who has sent us a SYN is where that came from.
        if let (Some(next_hop), None) = (opening.next_hop, opening.theirs) {
            let doubt = opening.sent > 0 && opening.sent.is_multiple_of(SYNS_BEFORE_DOUBT);
            if doubt && !opening.resolving {
                self.neighbours.forget(next_hop);
            }
            let local = connection.key.local.ip();
            let vif = &mut self.vif;
            let found = self.neighbours.find(next_hop, index, now, || {
                if let Some(question) = neighbours::question(&hardware, local, next_hop) {
                    let frame = question.frame();
                    vif.transmit(frame.len(), Offload::default(), |to| {
                        to.copy_from_slice(frame)
                    });
                }
            });
            opening.resolving = matches!(found, Found::Asked(_));
            match found {
                Found::Known(to) => connection.link[..6].copy_from_slice(&to),
                Found::Asked(again) => return self.arm_opening(index, again.min(give_up)),
                Found::Silent => return self.end(index, CloseReason::Unreachable),
            }
        } else if opening.theirs.is_none() {
            connection.link[..6].copy_from_slice(&hardware);
        }
        let wait = FIRST_RETRY * (1 << opening.sent.min(6));
        opening.sent += 1;
        let segment = maximum_segment(self.vif.capabilities().maximum_frame, &connection.key);
        let selective = opening.theirs.is_none() || connection.peer.selective;
        let scaled = opening.theirs.is_none() || connection.peer.window_scale.is_some();
        let control = Control {
            key: connection.key,
            sequence: opening.ours,
            acknowledgement: opening.theirs.map_or(0, |theirs| theirs.wrapping_add(1)),
            flags: if opening.theirs.is_some() {
                SYN | ACK
            } else {
                SYN
            },
            window: window_field(buffer),
            options: Some(PeerOptions {
                maximum_segment: segment,
                // An engine's own window is never scaled.
                window_scale: scaled.then_some(0),
                selective,
            }),
        };
        let link = connection.link;
        self.send_control(&link, &control);
        self.arm_opening(index, (now + wait).min(give_up));
    }

    fn arm_opening(&mut self, index: u32, at: Instant) {
        if let Some(connection) = self.connections.get_mut(index) {
            let timer = Timer::Connection(index);
            connection.deadline = Some(at);
            connection.armed = self.timers.arm(timer, connection.armed, Some(at));
        }
    }

    /// Whether a frame answers a question for a neighbour: then those who waited for
    /// it go on.
    pub(crate) fn learn_neighbour(&mut self, frame: &[u8]) {
        let hardware = self.local.hardware;
        let (now, local) = (self.now, &self.local);
        let ours = |address: IpAddr| local.has(address.into());
        let waited = self.neighbours.learn(frame, &hardware, ours, now);
        for index in waited {
            // It may be another one by now; that one then takes its step early.
            if self
                .connections
                .get(index)
                .and_then(|connection| connection.opening.as_ref())
                .is_some_and(|opening| opening.resolving)
            {
                self.go_on_opening(index);
            }
        }
    }

    /// Takes in a segment to a connection that is being opened (RFC 9293, 3.10.7.3, and
    /// 3.10.7.4 for one whose peer opens it, too).
    pub(crate) fn opening_segment(&mut self, index: u32, frame: &[u8], segment: &Segment) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(opening) = &mut connection.opening else {
            return;
        };
        let acknowledges = segment.flags & ACK != 0;
        let ours = opening.ours.wrapping_add(1);
        if acknowledges && segment.acknowledgement != ours {
            // Of an earlier connection, or forged.
            if segment.flags & RST == 0 {
                self.refuse(&link_back(frame), segment);
            }
            return;
        }
        if segment.flags & RST != 0 {
            let exact = match opening.theirs {
                None => acknowledges,
                Some(theirs) => segment.sequence == theirs.wrapping_add(1),
            };
            if exact {
                self.end(index, CloseReason::Refused);
            }
            return;
        }
        if segment.flags & SYN == 0 {
            // The answer to the SYN with which we answered theirs; all else is from
            // another life.
            match opening.theirs {
                Some(theirs) if acknowledges && segment.sequence == theirs.wrapping_add(1) => {
                    self.open(index, theirs, segment.window, frame);
                }
                _ => {}
            }
            return;
        }
        if opening
            .theirs
            .is_some_and(|theirs| theirs != segment.sequence)
        {
            // Only one of them can be the peer's, and the first one was answered.
            return;
        }
        let peer = PeerOptions::parse(&frame[segment.tcp + TCP_HEADER..segment.payload]);
        if !acknowledges {
            // Both open at once.
            if opening.theirs.is_none() {
                opening.theirs = Some(segment.sequence);
                opening.sent = 0;
                connection.send_next = ours;
                connection.receive_next = segment.sequence.wrapping_add(1);
                connection.peer = peer;
                connection.link = link_back(frame);
            }
            return self.go_on_opening(index);
        }
        connection.peer = peer;
        // The window of a SYN is not scaled (RFC 7323, 2.2), later ones are.
        let window = segment.window >> peer.window_scale.unwrap_or(0);
        self.open(index, segment.sequence, window, frame);
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let control = Control {
            key: connection.key,
            sequence: connection.send_next,
            acknowledgement: connection.receive_next,
            flags: ACK,
            window: self.idle_window(connection.port),
            options: None,
        };
        let link = connection.link;
        self.send_control(&link, &control);
    }

    /// The handshake is complete.
    fn open(&mut self, index: u32, theirs: u32, window: u16, frame: &[u8]) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(opening) = connection.opening.take() else {
            return;
        };
        let next = (opening.ours.wrapping_add(1), theirs.wrapping_add(1));
        connection.opened(next.0, next.1, window, now);
        connection.link = link_back(frame);
        let (key, port) = (connection.key, connection.port);
        let probed = self
            .port_terms(port)
            .is_some_and(|terms| terms.keep_alive.is_some());
        self.table.insert(key, Place::Connection(index));
        self.statistics.connected += 1;
        self.rest(index);
        self.enqueue(index);
        if probed && self.resume(index) {
            self.touch(index);
        }
    }

    /// A router or the peer says that a SYN of ours went nowhere. RFC 1122, 4.2.3.9,
    /// calls some of these errors passing; for a SYN they all count (RFC 5461, 4.1),
    /// if what they quote is exactly what was sent (RFC 5927, 4.1).
    pub(crate) fn unreachable(&mut self, quoted: &Quoted) {
        let Some(&Place::Opening(index)) = self.table.get(&quoted.key) else {
            return;
        };
        let opening = self
            .connections
            .get(index)
            .and_then(|connection| connection.opening.as_ref());
        if opening.is_some_and(|opening| opening.sent > 0 && opening.ours == quoted.sequence) {
            self.end(index, CloseReason::Unreachable);
        }
    }

    /// The application does not want it any more.
    pub(crate) fn give_up_opening(&mut self, index: u32) {
        let Some(opening) = self
            .connections
            .get(index)
            .and_then(|connection| connection.opening.as_ref())
        else {
            return;
        };
        // To a mere SYN of ours the peer's answer will find nobody, and is refused.
        match opening.theirs {
            Some(_) => self.reset(index, CloseReason::Aborted),
            None => self.end(index, CloseReason::Aborted),
        }
    }
}
