//! What smoltcp's loss recovery lacks: a retransmission for each hole that a
//! partial acknowledgement shows (RFC 6582), and a probe when acknowledgements
//! stop coming (after RFC 8985, 7) long before its own timeout of a second.
//!
//! Both make the engine retransmit its oldest segment the one way it offers:
//! by showing it three duplicate acknowledgements.

use crate::classify::Quoted;
use crate::connection::{Connection, Place};
use crate::engine::NARROW_SEGMENT;
use crate::handshake::window_field;
use crate::stack::Stack;
use crate::wire::{ACK, CONTROL_ROOM, Control, ETHERNET_HEADER, FIN, Segment, before};
use smoltcp::time::{Duration, Instant};

/// Shortest wait for an acknowledgement: more than peers delay theirs.
const SHORTEST_PROBE: Duration = Duration::from_millis(100);
/// Probes without an answer before the engine's own timeout takes over.
const MOST_PROBES: u8 = 3;

/// Bytes that a peer must take to be said to go on: one that takes a byte now and
/// then must not hold buffers for it.
const ADVANCE: u32 = 2048;

/// What is known of a connection's sent and unacknowledged bytes.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// The first unacknowledged sequence number.
    pub first: u32,
    /// Just after the highest sequence number received.
    pub received: u32,
    /// Acknowledgements up to here belong to a loss that was noticed.
    recover: Option<u32>,
    duplicates: u8,
    probes: u8,
    /// When bytes were last acknowledged, or first sent after all were.
    progress: Instant,
    /// When probing began anew, since the network server has.
    reunion: Instant,
    /// When the peer had last taken so much that it counts, and up to where; or
    /// when bytes were queued after all had been taken.
    advance: (Instant, u32),
    /// A sequence number whose round trip is being timed, and since when.
    sample: Option<(u32, Instant)>,
    /// Smoothed round-trip time in microseconds; 0: not known.
    round_trip: u64,
}

impl Flight {
    /// Nothing sent but what ends before `send_next`, nothing received from
    /// `receive_next` on.
    pub fn new(send_next: u32, receive_next: u32, now: Instant) -> Self {
        Self {
            first: send_next,
            received: receive_next,
            recover: None,
            duplicates: 0,
            probes: 0,
            progress: now,
            reunion: now,
            advance: (now, send_next),
            sample: None,
            round_trip: 0,
        }
    }

    /// Notes that bytes are queued after the peer had taken all before them.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        self.advance = (now, self.first);
    }

    /// Whether a segment can be the peer's, by its number: what it sends lies no
    /// more than a window before or after what it has sent, or a bit more for what
    /// was lost in between. All else is forged, or very old.
    #[inline]
    pub fn is_near(&self, segment: &Segment) -> bool {
        const WINDOW: u32 = 65_535;
        let earliest = self.received.wrapping_sub(2 * WINDOW);
        segment.sequence.wrapping_sub(earliest) <= 3 * WINDOW
    }

    /// Learns from a received segment. `window` is the room for what it may hold,
    /// `same` says that it leaves the peer's window as it was. Returns true if it
    /// shows a hole that has to be filled now.
    #[inline]
    pub fn received(
        &mut self,
        segment: &Segment,
        send_next: u32,
        window: u32,
        same: bool,
        now: Instant,
    ) -> bool {
        if segment.flags & ACK == 0 {
            return false;
        }
        let acknowledged = segment.acknowledgement;
        let end = segment.sequence.wrapping_add(segment.length());
        if end.wrapping_sub(self.received) <= window && !before(send_next, acknowledged) {
            self.received = end;
        }
        if before(self.first, acknowledged) && !before(send_next, acknowledged) {
            self.first = acknowledged;
            self.progress = now;
            if acknowledged.wrapping_sub(self.advance.1) >= ADVANCE {
                self.advance = (now, acknowledged);
            }
            self.probes = 0;
            self.duplicates = 0;
            if let Some((sample, since)) = self.sample
                && !before(acknowledged, sample)
            {
                let took = (now - since).total_micros().max(1);
                self.round_trip = match self.round_trip {
                    0 => took,
                    before => before - before / 8 + took / 8,
                };
                self.sample = None;
            }
            return match self.recover {
                Some(recover) if before(acknowledged, recover) => true,
                _ => {
                    self.recover = None;
                    false
                }
            };
        }
        if acknowledged == self.first
            && same
            && segment.payload == segment.end
            && self.first != send_next
        {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == 3 && self.recover.is_none() {
                self.recover = Some(send_next);
                self.sample = None;
            }
        }
        false
    }

    /// Notes that bytes up to `end` were sent for the first time.
    #[inline]
    pub fn sent(&mut self, before: u32, end: u32, now: Instant) {
        if self.first == before {
            self.progress = now;
        }
        if self.sample.is_none() && self.recover.is_none() {
            self.sample = Some((end, now));
        }
    }

    /// Since when the peer has taken nothing of what was sent to it, or so little
    /// that it does not count.
    pub fn stalled_since(&self) -> Instant {
        self.advance.0
    }

    /// When the peer last acknowledged something, or was sent something after it
    /// had acknowledged all.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// When a probe is due, if bytes are in flight.
    #[inline]
    pub fn probe_at(&self, send_next: u32) -> Option<Instant> {
        if self.first == send_next || self.probes >= MOST_PROBES {
            return None;
        }
        let wait = Duration::from_micros(2 * self.round_trip).max(SHORTEST_PROBE);
        Some(self.progress.max(self.reunion) + wait * (1 << self.probes))
    }

    /// What was lost until now says nothing of the way from now on: it is probed as if nothing had been.
    fn probe_anew(&mut self, now: Instant) {
        self.reunion = now;
        self.probes = 0;
    }
}

impl Connection {
    /// When this connection sends a probe. A peer without room is asked by the
    /// engine's own probes.
    pub fn probe_at(&self) -> Option<Instant> {
        if self.window == 0 {
            return None;
        }
        self.flight.probe_at(self.send_next)
    }
}

impl Stack {
    /// Retransmits the oldest segment if no acknowledgement has come for too long.
    pub(crate) fn probe(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection.probe_at().is_some_and(|at| at <= now) {
            let flight = &mut connection.flight;
            flight.probes += 1;
            flight.sample = None;
            flight.recover = Some(connection.send_next);
            self.statistics.probes += 1;
            self.retransmit(index);
        }
    }

    /// Asks the peers of all connections with bytes in flight how far they have got: the network
    /// server has started anew, and their acknowledgements may have gone with it. The question
    /// is that of a keep-alive (RFC 9293, 3.8.4), a segment without bytes from before the window,
    /// which changes nothing and is answered by an acknowledgement. If the bytes have gone, too, they are
    /// sent again as soon as a probe would be: the engine's own timeout, which doubles each time, may
    /// be a minute away by now.
    pub(crate) fn reunite(&mut self) {
        let now = self.now;
        for index in self.connections.indices() {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let Some(engine) = connection.engine else {
                continue;
            };
            if connection.flight.first == connection.send_next || connection.ended.is_some() {
                continue;
            }
            connection.flight.probe_anew(now);
            let socket = self.engines.get_ref(engine).socket_ref();
            let window = socket.recv_capacity() - socket.recv_queue();
            let control = Control {
                key: connection.key,
                sequence: connection.flight.first.wrapping_sub(1),
                acknowledgement: connection.receive_next,
                flags: ACK,
                window: window_field(window),
                options: None,
            };
            let link = connection.link;
            let length = ETHERNET_HEADER + control.length();
            self.touch(index);
            // Where there is no room, what is sent again anyway will be answered, too.
            if self.vif.can_transmit(length, Some(&link[..6])) {
                self.statistics.reunions += 1;
                self.send_control(&link, &control);
            }
        }
    }

    /// Takes in a report that a segment of ours was too big for its way. It counts
    /// if it is about bytes in flight: a forger would have to guess where these are
    /// (RFC 5927, 4.1).
    ///
    /// The connection's segments become as small as every link takes them: a way
    /// that has become narrower once need not be tried out.
    pub(crate) fn too_big(&mut self, report: &Quoted, mtu: u32) {
        let found = match self.table.get(&report.key) {
            Some(&Place::Connection(index)) => self.connections.get_mut(index).zip(Some(index)),
            _ => None,
        };
        let Some((connection, index)) = found.filter(|(connection, _)| {
            let first = connection.flight.first;
            let in_flight = connection.send_next.wrapping_sub(first);
            report.sequence.wrapping_sub(first) < in_flight
                && connection.peer.maximum_segment > NARROW_SEGMENT
                && (mtu as usize) < self.vif.capabilities().maximum_frame - ETHERNET_HEADER
        }) else {
            self.statistics.ignored_messages += 1;
            return;
        };
        connection.peer.maximum_segment = NARROW_SEGMENT;
        connection.flight.recover = Some(connection.send_next);
        connection.flight.sample = None;
        self.statistics.narrowed += 1;
        if let Some(engine) = connection.engine {
            self.engines.narrow(engine);
        }
        self.retransmit(index);
    }

    /// Makes a connection's engine send its oldest unacknowledged segment again.
    pub(crate) fn retransmit(&mut self, index: u32) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let Some(engine) = connection.engine else {
            return;
        };
        let socket = self.engines.get_ref(engine).socket_ref();
        if socket.send_queue() == 0 {
            // Only a FIN is in flight. Duplicates would make the engine stop its timer
            // and send nothing.
            let window = socket.recv_capacity() - socket.recv_queue();
            let control = Control {
                key: connection.key,
                sequence: connection.flight.first,
                acknowledgement: connection.receive_next,
                flags: FIN | ACK,
                window: window_field(window),
                options: None,
            };
            let link = connection.link;
            self.send_control(&link, &control);
            return self.touch(index);
        }
        // The first one looks like a change of the window, and so starts the
        // engine's count of duplicates anew.
        let control = Control {
            key: connection.key,
            sequence: connection.flight.received,
            acknowledgement: connection.flight.first.wrapping_sub(connection.offset),
            flags: ACK,
            window: connection.window ^ 1,
            options: None,
        };
        let mut packet = [0; CONTROL_ROOM];
        let packet = &mut packet[..control.length()];
        control.emit(packet, true);
        let (link, offset) = (connection.link, connection.offset);
        for _ in 0..4 {
            self.engines
                .receive(engine, &mut self.vif, link, offset, packet, self.now);
        }
        self.touch(index);
    }
}
