//! Connections before and after they have an engine: handshakes, TIME_WAIT, and
//! segments that belong to no connection.
//!
//! A peer that has only sent a SYN costs an entry in a bounded table. Buffers
//! are given out when it has shown, by acknowledging our SYN, that it is where
//! it says it is.

use crate::address::FlowKey;
use crate::config::Overflow;
use crate::connection::{Connection, Handshake, Link, Place, TimeWait, link_back};
use crate::stack::Stack;
use crate::timers::Timer;
use crate::wire::{
    ACK, Control, ETHERNET_HEADER, FIN, PeerOptions, RST, SYN, Segment, TCP_HEADER, before,
};
use core::hash::Hasher;
use smoltcp::time::Duration;

/// Time to the first repetition of a SYN of ours; it doubles with each (RFC 6298, 2).
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long a closed connection's name is kept: smoltcp's constant for it.
const TIME_WAIT: Duration = Duration::from_secs(10);
/// At most one challenge ACK to a connection in this time (RFC 5961, 7).
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

impl Stack {
    /// A segment to no connection. `last` is our last sequence number of an
    /// earlier connection of the same name.
    pub(crate) fn stray_segment(&mut self, frame: &[u8], segment: &Segment, last: Option<u32>) {
        if segment.flags & RST != 0 {
            return;
        }
        // Nobody calls from there, and no engine would talk to it.
        if self.local.is_broadcast(segment.key.remote) {
            self.statistics.malformed += 1;
            return;
        }
        let listener = self.listening_port(segment.key.local_port);
        match listener {
            Some(listener) if segment.flags & (SYN | ACK | FIN) == SYN => {
                let options = PeerOptions::parse(&frame[segment.tcp + TCP_HEADER..segment.payload]);
                self.begin_handshake(
                    listener,
                    segment.key,
                    link_back(frame),
                    segment.sequence,
                    options,
                    last,
                );
            }
            _ => self.refuse(&link_back(frame), segment),
        }
    }

    /// Answers a segment with a RST (RFC 9293, 3.10.7.1).
    pub(crate) fn refuse(&mut self, link: &Link, segment: &Segment) {
        self.statistics.refused_segments += 1;
        if segment.flags & ACK == 0 {
            let acknowledgement = segment.sequence.wrapping_add(segment.length());
            return self.send_reset(link, segment.key, 0, acknowledgement, RST | ACK);
        }
        self.send_reset(link, segment.key, segment.acknowledgement, 0, RST);
    }

    fn refuse_synchronize(&mut self, link: &Link, key: FlowKey, theirs: u32) {
        self.statistics.refused_segments += 1;
        self.send_reset(link, key, 0, theirs.wrapping_add(1), RST | ACK);
    }

    fn send_reset(
        &mut self,
        link: &Link,
        key: FlowKey,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
    ) {
        let control = Control {
            key,
            sequence,
            acknowledgement,
            flags,
            window: 0,
            options: None,
        };
        self.send_control(link, &control);
    }

    /// An initial sequence number: a clock of 4 µs and a secret function of the
    /// connection's name (RFC 6528).
    pub(crate) fn initial_sequence(&self, key: &FlowKey) -> u32 {
        let mut hasher = self.sequence_secret;
        for half in [key.remote.halves(), key.local.halves()].as_flattened() {
            hasher.write_u64(*half);
        }
        hasher.write_u32(u32::from(key.remote_port) << 16 | u32::from(key.local_port));
        let clock = (self.now.total_micros() / 4) as u32;
        clock.wrapping_add(hasher.finish() as u32)
    }

    fn begin_handshake(
        &mut self,
        port: u32,
        key: FlowKey,
        link: Link,
        theirs: u32,
        peer: PeerOptions,
        last: Option<u32>,
    ) {
        let handshakes = &self.handshakes;
        let Some(Some(listener)) = self.ports.get_mut(port).map(|port| port.listener.as_mut())
        else {
            return;
        };
        if listener.handshakes >= listener.options.backlog {
            match listener.options.overflow {
                Overflow::EvictOldest => {
                    while let Some((oldest, generation)) = listener.order.pop_front() {
                        if handshakes.generation(oldest) == generation {
                            self.drop_handshake(oldest);
                            break;
                        }
                    }
                }
                Overflow::Drop => {
                    self.statistics.handshakes_lost += 1;
                    return;
                }
                Overflow::Reset => {
                    self.statistics.handshakes_lost += 1;
                    return self.refuse_synchronize(&link, key, theirs);
                }
            }
        }
        let mut ours = self.initial_sequence(&key);
        if let Some(last) = last
            && !before(last, ours)
        {
            ours = last.wrapping_add(1 << 16);
        }
        let handshake = Handshake {
            key,
            link,
            port,
            ours,
            theirs,
            peer,
            begun: self.now,
            tries: 0,
            armed: None,
        };
        let Some(index) = self.handshakes.insert(handshake) else {
            return;
        };
        self.statistics.handshakes += 1;
        self.table.insert(key, Place::Handshake(index));
        self.use_port(port);
        let handshakes = &self.handshakes;
        if let Some(listener) = self
            .ports
            .get_mut(port)
            .and_then(|port| port.listener.as_mut())
        {
            listener.handshakes += 1;
            if listener.order.len() > 2 * listener.options.backlog {
                listener
                    .order
                    .retain(|&(index, generation)| handshakes.generation(index) == generation);
            }
            listener
                .order
                .push_back((index, handshakes.generation(index)));
        }
        self.send_synchronize(index);
    }

    /// Sends our SYN, and arms the timer for the next time.
    fn send_synchronize(&mut self, index: u32) {
        let Some(handshake) = self.handshakes.get(index) else {
            return;
        };
        let Some(options) = self.port_terms(handshake.port) else {
            return;
        };
        let segment = maximum_segment(self.vif.capabilities().maximum_frame, &handshake.key);
        let control = Control {
            key: handshake.key,
            sequence: handshake.ours,
            acknowledgement: handshake.theirs.wrapping_add(1),
            flags: SYN | ACK,
            window: window_field(options.buffers.receive),
            options: Some(PeerOptions {
                maximum_segment: segment,
                // An engine's own window is never scaled.
                window_scale: handshake.peer.window_scale.map(|_| 0),
                selective: handshake.peer.selective,
            }),
        };
        let give_up = handshake.begun + options.handshake_timeout;
        let retry = self.now + FIRST_RETRY * (1 << handshake.tries.min(6));
        let link = handshake.link;
        if let Some(handshake) = self.handshakes.get_mut(index) {
            self.timers.disarm(Timer::Handshake(index), handshake.armed);
            handshake.armed =
                self.timers
                    .arm(Timer::Handshake(index), None, Some(retry.min(give_up)));
        }
        self.send_control(&link, &control);
    }

    pub(crate) fn handshake_due(&mut self, index: u32) {
        let Some(handshake) = self.handshakes.get_mut(index) else {
            return;
        };
        handshake.armed = None;
        handshake.tries += 1;
        let (port, begun) = (handshake.port, handshake.begun);
        match self.port_terms(port) {
            Some(options) if self.now < begun + options.handshake_timeout => {
                self.send_synchronize(index)
            }
            _ => self.drop_handshake(index),
        }
    }

    fn remove_handshake(&mut self, index: u32) -> Option<Handshake> {
        let handshake = self.handshakes.remove(index)?;
        self.timers.disarm(Timer::Handshake(index), handshake.armed);
        self.table.remove(&handshake.key);
        if let Some(listener) = self.listener_mut(handshake.port) {
            listener.handshakes -= 1;
        }
        Some(handshake)
    }

    pub(crate) fn drop_handshake(&mut self, index: u32) {
        if let Some(handshake) = self.remove_handshake(index) {
            self.statistics.handshakes_lost += 1;
            self.leave_port(handshake.port);
        }
    }

    /// Ends a handshake with a RST.
    pub(crate) fn reset_handshake(&mut self, index: u32) {
        if let Some(handshake) = self.handshakes.get(index) {
            let control = Control {
                key: handshake.key,
                sequence: handshake.ours.wrapping_add(1),
                acknowledgement: handshake.theirs.wrapping_add(1),
                flags: RST | ACK,
                window: 0,
                options: None,
            };
            let link = handshake.link;
            self.send_control(&link, &control);
            self.drop_handshake(index);
        }
    }

    /// A segment to a connection whose SYN we have answered.
    pub(crate) fn handshake_segment(
        &mut self,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
    ) -> bool {
        let Some(handshake) = self.handshakes.get(index) else {
            return true;
        };
        let next = handshake.theirs.wrapping_add(1);
        if segment.flags & RST != 0 {
            if segment.sequence == next {
                self.drop_handshake(index);
            }
            return true;
        }
        if segment.flags & SYN != 0 {
            if segment.flags & ACK != 0 {
                return true;
            }
            if segment.sequence == handshake.theirs {
                self.send_synchronize(index);
            } else {
                // Forged, or the peer has started anew: then it answers with a RST
                // (RFC 5961, 4).
                let control = Control {
                    key: handshake.key,
                    sequence: handshake.ours.wrapping_add(1),
                    acknowledgement: next,
                    flags: ACK,
                    window: self.idle_window(handshake.port),
                    options: None,
                };
                let link = handshake.link;
                self.send_control(&link, &control);
            }
            return true;
        }
        if segment.flags & ACK == 0 {
            return true;
        }
        if segment.acknowledgement != handshake.ours.wrapping_add(1) {
            self.refuse(&link_back(frame), segment);
            return true;
        }
        let Some(options) = self.port_terms(handshake.port) else {
            return true;
        };
        if segment.sequence.wrapping_sub(next) as usize > options.buffers.receive {
            return true;
        }
        let probed = options.keep_alive.is_some();
        let (key, port, peer) = (handshake.key, handshake.port, handshake.peer);
        let mut connection = Connection::new(key, link_back(frame), port, peer, self.now);
        connection.opened(segment.acknowledgement, next, segment.window, self.now);
        let Some(new) = self.connections.insert(connection) else {
            self.statistics.no_room += 1;
            return true;
        };
        // It uses the port as its handshake did.
        self.remove_handshake(index);
        self.table.insert(segment.key, Place::Connection(new));
        self.statistics.accepted += 1;
        self.enqueue(new);
        // It gets buffers when there is something to put in, or at once if it is to
        // be probed while it is idle.
        self.rest(new);
        if segment.payload == segment.end && segment.flags & FIN == 0 && !probed {
            return true;
        }
        self.connection_segment(new, frame, segment)
    }

    /// The window of a connection of which nothing waits to be read.
    pub(crate) fn idle_window(&self, port: u32) -> u16 {
        self.port_terms(port)
            .map_or(0, |options| window_field(options.buffers.receive))
    }

    /// Answers a SYN on a live connection (RFC 5961, 4): if the peer has
    /// forgotten the connection, it answers with a RST that ends it.
    pub(crate) fn challenge(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection
            .last_challenge
            .is_some_and(|last| now < last + CHALLENGE_INTERVAL)
        {
            return;
        }
        connection.last_challenge = Some(now);
        let mut control = Control {
            key: connection.key,
            sequence: connection.send_next,
            acknowledgement: connection.receive_next,
            flags: ACK,
            window: 0,
            options: None,
        };
        let (link, port, engine) = (connection.link, connection.port, connection.engine);
        // The peer believes this answer to what it may not have sent: no room would
        // make it stop.
        control.window = match engine {
            Some(engine) => {
                let socket = self.engines.get_ref(engine).socket_ref();
                window_field(socket.recv_capacity() - socket.recv_queue())
            }
            None => self.idle_window(port),
        };
        self.send_control(&link, &control);
    }

    /// Keeps a closed connection's name (RFC 9293, 3.6.1).
    pub(crate) fn remember(&mut self, remains: TimeWait) {
        if self.time_waits.is_full() {
            while let Some((_, index, generation)) = self.time_wait_order.pop_front() {
                if self.time_waits.generation(index) == generation {
                    self.forget(index);
                    break;
                }
            }
        }
        let (key, port) = (remains.key, remains.port);
        if let Some(index) = self.time_waits.insert(remains) {
            self.use_port(port);
            self.hold_port(port, TIME_WAIT);
            self.table.insert(key, Place::TimeWait(index));
            // Names that were taken for new connections leave their places here.
            if self.time_wait_order.len() > 2 * self.time_waits.len() {
                let time_waits = &self.time_waits;
                self.time_wait_order
                    .retain(|&(_, index, generation)| time_waits.generation(index) == generation);
            }
            self.time_wait_order.push_back((
                self.now + TIME_WAIT,
                index,
                self.time_waits.generation(index),
            ));
        }
    }

    pub(crate) fn forget(&mut self, index: u32) {
        if let Some(remains) = self.time_waits.remove(index) {
            self.table.remove(&remains.key);
            self.leave_port(remains.port);
        }
    }

    pub(crate) fn time_wait_segment(&mut self, index: u32, frame: &[u8], segment: &Segment) {
        let Some(remains) = self.time_waits.get(index) else {
            return;
        };
        let (send_next, receive_next) = (remains.send_next, remains.receive_next);
        if segment.flags & RST != 0 {
            // RFC 1337: an old RST must not end TIME_WAIT early. One that answers
            // our answer to a SYN does: the peer has nothing left of the old
            // connection, and wants the new one.
            if let Some((theirs, peer)) = remains.wanted
                && segment.sequence == receive_next
            {
                self.forget(index);
                self.statistics.time_wait_recycled += 1;
                if let Some(listener) = self.listening_port(segment.key.local_port) {
                    let link = link_back(frame);
                    self.begin_handshake(
                        listener,
                        segment.key,
                        link,
                        theirs,
                        peer,
                        Some(send_next),
                    );
                }
            }
            return;
        }
        if segment.flags & (SYN | ACK) == SYN {
            if before(receive_next.wrapping_sub(1), segment.sequence)
                && self.listening_port(segment.key.local_port).is_some()
            {
                // RFC 6191, 2: a new incarnation of the connection.
                self.statistics.time_wait_recycled += 1;
                self.forget(index);
                return self.stray_segment(frame, segment, Some(send_next));
            }
            let peer = PeerOptions::parse(&frame[segment.tcp + TCP_HEADER..segment.payload]);
            let listens = self.listening_port(segment.key.local_port).is_some();
            if let Some(remains) = self.time_waits.get_mut(index)
                && listens
            {
                remains.wanted = Some((segment.sequence, peer));
            }
        }
        // Only what takes up sequence numbers is answered: two ends in TIME_WAIT
        // must not answer each other for ever.
        if segment.length() > 0 {
            let control = Control {
                key: segment.key,
                sequence: send_next,
                acknowledgement: receive_next,
                flags: ACK,
                window: 0,
                options: None,
            };
            self.send_control(&link_back(frame), &control);
        }
    }
}

/// The largest segment that we take: what a frame holds.
pub(crate) fn maximum_segment(maximum_frame: usize, key: &FlowKey) -> u16 {
    let segment = maximum_frame - ETHERNET_HEADER - key.headers();
    segment.min(65_535) as u16
}

/// A window of so many bytes, which is never scaled, as a header has it.
pub(crate) fn window_field(bytes: usize) -> u16 {
    bytes.min(usize::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Addresses, Config, EveryPort, ListenOptions, Network};
    use crate::vif::{Backend, Capabilities, Offload, Received, Vif};
    use alloc::boxed::Box;
    use core::net::Ipv4Addr;
    use smoltcp::time::Instant;

    /// A cable that leads nowhere.
    struct Nowhere;

    impl Backend for Nowhere {
        fn capabilities(&self) -> Capabilities {
            Capabilities {
                maximum_frame: 1514,
                segmentation: None,
                checksum: true,
            }
        }
        fn receive(&mut self, _: &mut [u8]) -> Option<Received> {
            None
        }
        fn can_transmit(&mut self, _: usize) -> bool {
            true
        }
        fn transmit(&mut self, _: usize, _: Offload, _: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
            false
        }
        fn commit(&mut self) {}
    }

    #[test]
    fn names_that_are_used_again_at_once_take_no_more_room() {
        let local = Ipv4Addr::new(10, 0, 2, 15);
        let config = Config {
            hardware_address: [2, 0, 0, 0, 0, 15],
            addresses: Addresses {
                ipv4: Some(Network {
                    address: local,
                    prefix_length: 24,
                    gateway: None,
                }),
                ipv6: None,
            },
            seed: [1, 2],
            maximum_connections: 16,
            buffer_memory: 1 << 20,
            maximum_time_wait: 8,
        };
        let now = Instant::from_secs(1);
        let ports = Box::new(EveryPort::default());
        let mut stack = Stack::new(config, Vif::new(Box::new(Nowhere)), ports, now);
        stack.listen(80, ListenOptions::default()).unwrap();
        for count in 0..1000u32 {
            let key = FlowKey {
                remote: Ipv4Addr::new(10, 0, 2, 2).into(),
                local: local.into(),
                remote_port: 1000 + (count % 3) as u16,
                local_port: 80,
            };
            if let Some(&Place::TimeWait(index)) = stack.table.get(&key) {
                stack.forget(index);
            }
            stack.remember(TimeWait {
                key,
                port: 0,
                send_next: count,
                receive_next: count,
                wanted: None,
            });
            assert!(stack.time_wait_order.len() <= 2 * 8 + 1, "{count}");
        }
        assert_eq!(stack.time_wait_entries(), 3);
        // Those that are still there end in their time.
        stack.now = now + TIME_WAIT;
        stack.expire();
        assert_eq!(
            (stack.time_wait_entries(), stack.time_wait_order.len()),
            (0, 0)
        );
    }
}
