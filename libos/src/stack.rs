//! The stack: frames in, events out; calls in, frames out.

use crate::address::Local;
use crate::classify::{Class, classify, undeliverable};
use crate::config::{CloseReason, Config, ConnectionId, Event, ListenerId, PortAuthority, Ready};
use crate::connection::{Connection, Handshake, Link, Place, TimeWait};
use crate::control::Steering;
use crate::engine::Engines;
use crate::hash::{FlowMap, Secret, Seed};
use crate::lending::PARK_AFTER;
use crate::neighbours::Neighbours;
use crate::others::Others;
use crate::ports::Port;
use crate::reassembly::{Outcome, Reassembly};
use crate::slab::Slab;
use crate::statistics::Statistics;
use crate::timers::{Timer, Timers};
use crate::vif::{Offload, Vif};
use crate::wire::{ACK, Control, ETHERNET_HEADER, RST, SYN, Segment};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};

/// Frames taken in before the application gets its turn.
const FRAMES_PER_POLL: usize = 256;
/// An engine that wants to send but does not is asked again after this.
const RETRY: Duration = Duration::from_millis(10);

/// A TCP/IP stack over one [`Vif`].
///
/// The caller drives it in rounds: [`Stack::poll`] takes frames in,
/// [`Stack::next_event`] says what became of them, the application reads and
/// writes, and [`Stack::flush`] sends. So an answer carries the acknowledgement
/// of what it answers. Between rounds it may sleep until
/// [`Stack::next_deadline`].
pub struct Stack {
    pub(crate) vif: Vif,
    pub(crate) engines: Engines,
    pub(crate) others: Others,
    pub(crate) neighbours: Neighbours,
    reassembly: Reassembly,
    pub(crate) table: FlowMap<Place>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) handshakes: Slab<Handshake>,
    pub(crate) time_waits: Slab<TimeWait>,
    /// TIME_WAITs in the order they end, with their generations.
    pub(crate) time_wait_order: VecDeque<(Instant, u32, u32)>,
    pub(crate) ports: Slab<Port>,
    pub(crate) port_numbers: HashMap<u16, u32, Seed>,
    pub(crate) next_listener: u32,
    pub(crate) authority: Box<dyn PortAuthority>,
    pub(crate) timers: Timers,
    pub(crate) touched: Vec<u32>,
    pub(crate) queue: VecDeque<u32>,
    /// Connections that want an engine, in the order they came.
    pub(crate) starved: VecDeque<u32>,
    /// Segments to connections that want an engine.
    pub(crate) delayed: VecDeque<(Vec<u8>, Segment)>,
    pub(crate) delayed_bytes: usize,
    /// When no engine could be taken from anyone.
    pub(crate) relieve_failed: Option<Instant>,
    /// One for the frame at hand, one for the frame before it.
    buffers: [Vec<u8>; 2],
    pub(crate) now: Instant,
    pub(crate) local: Local,
    pub(crate) sequence_secret: siphasher::sip::SipHasher13,
    pub(crate) statistics: Statistics,
    /// When somebody was last said to have taken an address of ours.
    pub(crate) conflict_reported: Option<Instant>,
    pub(crate) steering: Steering,
}

impl Stack {
    /// A stack with no sockets yet. `authority` says which ports it may use, and is
    /// told when it needs them no more.
    pub fn new(
        config: Config,
        mut vif: Vif,
        authority: Box<dyn PortAuthority>,
        now: Instant,
    ) -> Self {
        let secret = Secret(config.seed);
        let hash = Seed(Secret([secret.derive(1), secret.derive(2)]));
        let local = Local::new(config.hardware_address, &config.addresses);
        vif.secret = Secret([secret.derive(7), secret.derive(8)]);
        vif.now = now;
        Self {
            engines: Engines::new(
                &mut vif,
                &local,
                secret.derive(3),
                config.buffer_memory,
                now,
            ),
            others: Others::new(&local, &mut vif, secret.derive(4), hash, now),
            neighbours: Neighbours::default(),
            reassembly: Reassembly::default(),
            table: FlowMap::with_hasher(hash),
            connections: Slab::new(config.maximum_connections),
            handshakes: Slab::new(usize::MAX),
            time_waits: Slab::new(config.maximum_time_wait.max(1)),
            time_wait_order: VecDeque::new(),
            ports: Slab::new(usize::MAX),
            port_numbers: HashMap::with_hasher(hash),
            next_listener: 0,
            authority,
            timers: Timers::default(),
            touched: Vec::new(),
            queue: VecDeque::new(),
            starved: VecDeque::new(),
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            relieve_failed: None,
            buffers: [(); 2].map(|()| vec![0; vif.capabilities().maximum_frame.max(2048)]),
            now,
            sequence_secret: siphasher::sip::SipHasher13::new_with_keys(
                secret.derive(5),
                secret.derive(6),
            ),
            statistics: Statistics::default(),
            conflict_reported: None,
            steering: Steering::default(),
            vif,
            local,
        }
    }

    /// Takes in frames, until there is none or it is the application's turn, and
    /// looks at the clock. Returns how many frames there were.
    pub fn poll(&mut self, now: Instant) -> usize {
        self.now = now;
        self.steer(now);
        self.vif.begin(now);
        if self.vif.take_rejoined() {
            self.reunite();
        }
        self.expire();
        self.take_delayed();
        let [mut buffer, mut kept] = core::mem::take(&mut self.buffers);
        // An acknowledgement that waits whether the next frame makes it needless.
        let mut held: Option<(u32, Segment)> = None;
        let mut frames = 0;
        while frames < FRAMES_PER_POLL {
            let Some(received) = self.vif.receive(&mut buffer) else {
                break;
            };
            frames += 1;
            let frame = &mut buffer[..received.length];
            let class = classify(frame, received.verified, &self.local, &mut self.statistics);
            if let Class::Tcp(segment) = &class
                && let Some(index) = self.mere_progress(segment, held.map(|(_, held)| held))
            {
                if let Some((earlier, earlier_segment)) = held.replace((index, *segment)) {
                    if earlier == index {
                        self.statistics.merged += 1;
                    } else {
                        self.connection_segment(earlier, &mut kept, &earlier_segment);
                    }
                }
                core::mem::swap(&mut buffer, &mut kept);
                continue;
            }
            if let Some((index, acknowledgement)) = held.take() {
                match &class {
                    Class::Tcp(segment) if self.includes(segment, &acknowledgement) => {
                        self.statistics.merged += 1;
                    }
                    _ => {
                        self.connection_segment(index, &mut kept, &acknowledgement);
                    }
                }
            }
            match class {
                Class::Tcp(segment) => {
                    if !self.segment(frame, &segment) {
                        self.delay(frame, segment);
                    }
                }
                Class::Udp(port) => self.others.receive(&mut self.vif, frame, Some(port), now),
                Class::Other => self.other_frame(frame),
                Class::Probe(address) => self.defend(address),
                Class::Unreachable(quoted) => self.unreachable(&quoted),
                Class::TooBig(quoted, mtu) => self.too_big(&quoted, mtu),
                Class::Fragment => self.fragment(frame),
                Class::Drop => {}
            }
        }
        if let Some((index, segment)) = held {
            self.connection_segment(index, &mut kept, &segment);
        }
        self.buffers = [buffer, kept];
        frames
    }

    /// Takes in a frame that is neither TCP nor UDP.
    fn other_frame(&mut self, frame: &[u8]) {
        self.learn_neighbour(frame);
        self.look_for_conflict(frame);
        if let Some(quoted) = undeliverable(frame) {
            self.unreachable(&quoted);
        }
        self.others.receive(&mut self.vif, frame, None, self.now);
    }

    /// Takes in a fragment, and what it completes.
    fn fragment(&mut self, frame: &[u8]) {
        // It lends a frame out while the rest of the stack looks at it.
        let mut reassembly = core::mem::take(&mut self.reassembly);
        match reassembly.receive(frame, self.now) {
            Outcome::Kept => {}
            Outcome::Dropped => self.statistics.fragments_dropped += 1,
            Outcome::Complete(whole) => {
                self.statistics.reassembled += 1;
                let class = classify(whole, false, &self.local, &mut self.statistics);
                match class {
                    Class::Udp(port) => {
                        self.others
                            .receive(&mut self.vif, whole, Some(port), self.now);
                    }
                    Class::Other => self.other_frame(whole),
                    // Nothing else goes into reassembly.
                    _ => {}
                }
            }
        }
        self.reassembly = reassembly;
    }

    /// Sends what connections and sockets have to send, as far as the Vif takes it.
    pub fn flush(&mut self, now: Instant) {
        self.now = now;
        let mut touched = core::mem::take(&mut self.touched);
        touched.retain(|&index| {
            let keep = self.egress(index);
            if let Some(connection) = self.connections.get_mut(index) {
                connection.touched = keep;
            }
            keep
        });
        touched.append(&mut self.touched);
        self.touched = touched;
        self.others.send(&mut self.vif, now);
        self.vif.commit(now);
    }

    /// Ends the caller's turn. Returns true if it may sleep until it is notified
    /// or until [`Stack::next_deadline`]; else it must take another turn.
    pub fn sleep(&mut self) -> bool {
        let for_room = !self.touched.is_empty() || self.others.waits_for_room();
        !self.has_events() && !self.is_steered() && self.vif.sleep(for_room)
    }

    /// When [`Stack::poll`] and [`Stack::flush`] should be called again at the
    /// latest, frames or not.
    pub fn next_deadline(&self) -> Option<Instant> {
        let time_wait = self.time_wait_order.front().map(|&(at, ..)| at);
        let timers = self.timers.earliest();
        [
            timers,
            self.others.deadline(),
            time_wait,
            self.vif.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether [`Stack::next_event`] has something to say.
    pub fn has_events(&self) -> bool {
        !self.queue.is_empty() || !self.others.events.is_empty()
    }

    /// What the application should look at next.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(index) = self.queue.pop_front() {
            let generation = self.connections.generation(index);
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            connection.queued = false;
            let id = ConnectionId { index, generation };
            let port = connection.port;
            if connection.active && !connection.announced {
                if connection.opening.is_some() && connection.ended.is_none() {
                    continue;
                }
                connection.announced = true;
                if connection.opening.is_none() {
                    connection.queued = true;
                    self.queue.push_front(index);
                    return Some(Event::Connected { connection: id });
                }
            }
            if !connection.announced {
                connection.announced = true;
                let peer = connection.key.peer();
                let listener = self.ports.get(port).and_then(|port| port.listener.as_ref());
                let Some(listener) = listener else {
                    // Its listener was closed, and it was reset.
                    self.remove_connection(index, port);
                    continue;
                };
                let listener = ListenerId {
                    port,
                    serial: listener.serial,
                };
                connection.queued = true;
                self.queue.push_front(index);
                return Some(Event::Accepted {
                    listener,
                    connection: id,
                    peer,
                });
            }
            if let Some(reason) = connection.ended {
                self.remove_connection(index, port);
                return Some(Event::Closed {
                    connection: id,
                    reason,
                });
            }
            let Some(engine) = connection.engine else {
                continue;
            };
            let socket = self.engines.get_ref(engine).socket_ref();
            let mut ready = Ready::default();
            if core::mem::take(&mut connection.fresh) {
                ready.readable = socket.can_recv() && !connection.close_requested;
            }
            if connection.wants_room
                && socket.send_queue() <= socket.send_capacity() / 2
                && socket.may_send()
            {
                connection.wants_room = false;
                ready.writable = true;
            }
            if !connection.end_reported && is_end(socket.state()) {
                connection.end_reported = true;
                ready.peer_closed = true;
            }
            if ready != Ready::default() {
                return Some(Event::Ready {
                    connection: id,
                    ready,
                });
            }
        }
        self.others
            .next_event()
            .map(|socket| Event::Datagram { socket })
    }

    fn remove_connection(&mut self, index: u32, port: u32) {
        self.connections.remove(index);
        self.statistics.closed += 1;
        self.leave_port(port);
    }

    /// What has been counted so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            vif: self.vif.counters,
            ..self.statistics
        }
    }

    /// Connections open now, parked ones included.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Handshakes under way.
    pub fn open_handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Connections remembered in TIME_WAIT.
    pub fn time_wait_entries(&self) -> usize {
        self.time_waits.len()
    }

    /// Bytes of connection buffers made so far.
    pub fn buffer_memory(&self) -> usize {
        self.engines.memory()
    }

    pub(crate) fn touch(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.touched
        {
            connection.touched = true;
            self.touched.push(index);
        }
    }

    pub(crate) fn enqueue(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.queued
        {
            connection.queued = true;
            self.queue.push_back(index);
        }
    }

    /// Takes in a segment. Returns false if it needs an engine and there is none.
    pub(crate) fn segment(&mut self, frame: &mut [u8], segment: &Segment) -> bool {
        match self.table.get(&segment.key).copied() {
            Some(Place::Connection(index)) => {
                return self.connection_segment(index, frame, segment);
            }
            Some(Place::Opening(index)) => self.opening_segment(index, frame, segment),
            Some(Place::Handshake(index)) => return self.handshake_segment(index, frame, segment),
            Some(Place::TimeWait(index)) => self.time_wait_segment(index, frame, segment),
            None => self.stray_segment(frame, segment, None),
        }
        true
    }

    pub(crate) fn connection_segment(
        &mut self,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
    ) -> bool {
        if segment.flags & SYN != 0 {
            self.challenge(index);
            return true;
        }
        if segment.flags & RST != 0 {
            self.reset_by_peer(index, segment);
            return true;
        }
        if self
            .connections
            .get(index)
            .is_some_and(|connection| !connection.flight.is_near(segment))
        {
            self.challenge(index);
            return true;
        }
        if !self.resume(index) {
            return false;
        }
        let Some(connection) = self.connections.get_mut(index) else {
            return true;
        };
        let Some(engine) = connection.engine else {
            return true;
        };
        connection.last_activity = self.now;
        connection.link[..6].copy_from_slice(&frame[6..12]);
        let same = segment.window == connection.window;
        let room = u32::from(u16::MAX);
        let hole = connection
            .flight
            .received(segment, connection.send_next, room, same, self.now);
        if segment.flags & ACK != 0 {
            connection.window = segment.window;
            let acknowledgement = segment.acknowledgement.wrapping_sub(connection.offset);
            frame[segment.tcp + 8..segment.tcp + 12]
                .copy_from_slice(&acknowledgement.to_be_bytes());
        }
        connection.fresh |= segment.payload < segment.end;
        let packet = &frame[ETHERNET_HEADER..segment.end];
        let sent = self.engines.receive(
            engine,
            &mut self.vif,
            connection.link,
            connection.offset,
            packet,
            self.now,
        );
        if let Some(sent) = sent {
            connection.note(&sent, self.now);
        }
        if !connection.touched {
            connection.touched = true;
            self.touched.push(index);
        }
        if !connection.queued {
            connection.queued = true;
            self.queue.push_back(index);
        }
        if hole {
            self.retransmit(index);
        }
        self.end_if_closed(index, CloseReason::Finished, false);
        true
    }

    /// Sends what a connection has to send. Returns whether it has to be called
    /// again when there is room.
    fn egress(&mut self, index: u32) -> bool {
        let now = self.now;
        let Some(connection) = self.connections.get(index) else {
            return false;
        };
        let largest = if connection.key.is_ipv4() {
            self.vif.largest_transmit()
        } else {
            self.vif.capabilities().maximum_frame
        };
        if connection.engine.is_none() {
            let needs =
                connection.wants_room || connection.close_requested || connection.abort_requested;
            if !needs || connection.ended.is_some() || !self.resume(index) {
                return false;
            }
            self.enqueue(index);
            self.apply_requests(index);
        }
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        let Some(engine) = connection.engine else {
            return false;
        };
        // Where bytes wait that were never sent, the engine need not be asked whether it wants to send.
        let mut waits = connection.has_unsent(self.engines.get_ref(engine).socket_ref());
        // Whether the deadline is the probe's, so that it need not be looked for.
        let mut is_probe = false;
        let blocked = loop {
            if waits {
                connection.deadline = Some(now);
            } else {
                let next = self.engines.poll_at(engine, now);
                connection.deadline = next;
                if next.is_none_or(|at| at > now) {
                    break false;
                }
            }
            if !self.vif.can_transmit(largest, Some(&connection.link[..6])) {
                break true;
            }
            let sent = self.engines.send(
                engine,
                &mut self.vif,
                connection.link,
                connection.offset,
                now,
            );
            match sent {
                Some(sent) => {
                    let before = connection.send_next;
                    if connection.note(&sent, now) {
                        self.statistics.retransmissions += 1;
                    }
                    let socket = self.engines.get_ref(engine).socket_ref();
                    waits = connection.has_unsent(socket);
                    // An engine that sends again does not wait for its timeout alone.
                    let is_new = connection.send_next != before;
                    if !waits
                        && is_new
                        && let Some(probe) = connection.probe_before(socket, now)
                    {
                        connection.deadline = Some(probe);
                        is_probe = true;
                        break false;
                    }
                }
                None => {
                    let next = self.engines.poll_at(engine, now);
                    connection.deadline = next.map(|at| if at > now { at } else { now + RETRY });
                    break false;
                }
            }
        };
        // A delayed acknowledgement still has to go out; TIME_WAIT's own end is far.
        let drained = !blocked && connection.deadline.is_none_or(|at| at > now + PARK_AFTER);
        if !is_probe && let Some(probe) = connection.probe_at() {
            connection.deadline = Some(
                connection
                    .deadline
                    .map_or(probe, |deadline| deadline.min(probe)),
            );
        }
        if let Some(until) = connection.linger_until {
            connection.deadline = Some(
                connection
                    .deadline
                    .map_or(until, |deadline| deadline.min(until)),
            );
        }
        connection.armed = self.timers.arm(
            Timer::Connection(index),
            connection.armed,
            connection.deadline.map(|deadline| deadline.max(now)),
        );
        let aborted = connection.abort_requested;
        self.end_if_closed(
            index,
            if aborted {
                CloseReason::Aborted
            } else {
                CloseReason::TimedOut
            },
            drained,
        );
        blocked
    }

    /// Sends a segment of the stack's own.
    pub(crate) fn send_control(&mut self, link: &Link, control: &Control) {
        let length = ETHERNET_HEADER + control.length();
        let to = &link[..6];
        self.vif
            .transmit_to(to, length, Offload::default(), |frame| {
                frame[..ETHERNET_HEADER].copy_from_slice(link);
                control.emit(&mut frame[ETHERNET_HEADER..], false);
            });
    }
}

/// Whether the peer has closed its side.
pub(crate) fn is_end(state: tcp::State) -> bool {
    matches!(
        state,
        tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing | tcp::State::TimeWait
    )
}
