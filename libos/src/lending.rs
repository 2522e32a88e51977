//! Who has an engine: lending, parking, and waiting for one.

use crate::config::CloseReason;
use crate::connection::Connection;
use crate::engine::BufferSizes;
use crate::stack::Stack;
use crate::timers::Timer;
use crate::wire::Segment;
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};

/// Bytes of segments kept for want of an engine.
const DELAYED_BYTES: usize = 256 * 1024;
/// A connection is parked first when nothing happened on it for this long, several
/// times the longest delay of an acknowledgement.
pub(crate) const PARK_AFTER: Duration = Duration::from_millis(50);
/// When engines are short, a peer that takes nothing of what is sent to it, or a
/// few bytes only, for this long loses its connection.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// When engines are short, a peer that has got everything and does not close its
/// side either loses its connection after this.
const UNCLOSED_AFTER: Duration = Duration::from_secs(1);

impl Stack {
    /// Keeps a segment until there is an engine for it. The peer would repeat it,
    /// but only after a second or more.
    pub(crate) fn delay(&mut self, frame: &[u8], segment: Segment) {
        if self.delayed_bytes + segment.end > DELAYED_BYTES {
            self.statistics.no_buffers += 1;
            return;
        }
        self.statistics.delayed += 1;
        self.delayed_bytes += segment.end;
        self.delayed
            .push_back((frame[..segment.end].to_vec(), segment));
    }

    /// Takes in segments that were kept, as far as there are engines for them, and
    /// lets a starved connection try again.
    pub(crate) fn take_delayed(&mut self) {
        while let Some((mut frame, segment)) = self.delayed.pop_front() {
            if !self.segment(&mut frame, &segment) {
                self.delayed.push_front((frame, segment));
                break;
            }
            self.delayed_bytes -= frame.len();
        }
        while let Some(&index) = self.starved.front() {
            if !self.resume(index)
                && self
                    .connections
                    .get(index)
                    .is_some_and(|connection| connection.ended.is_none())
            {
                break;
            }
            self.starved.pop_front();
            if let Some(connection) = self.connections.get_mut(index) {
                connection.starved = false;
            }
            self.apply_requests(index);
            self.enqueue(index);
            self.touch(index);
        }
    }

    /// Gives a connection an engine, if it has none. Returns false if it stays
    /// without.
    pub(crate) fn resume(&mut self, index: u32) -> bool {
        let Some(connection) = self.connections.get(index) else {
            return false;
        };
        if connection.engine.is_some() {
            return true;
        }
        if connection.ended.is_some() || connection.opening.is_some() {
            return false;
        }
        let Some(&options) = self.port_terms(connection.port) else {
            return false;
        };
        let mut engine = self.engines.take(options.buffers, index as usize);
        if engine.is_none() && self.relieve(options.buffers) {
            engine = self.engines.take(options.buffers, index as usize);
        }
        let Some(engine) = engine else { return false };
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        connection.offset = self
            .engines
            .establish(engine, &connection.resumption(), self.now);
        connection.engine = Some(engine);
        let socket = self.engines.get(engine).socket();
        socket.set_timeout(options.timeout);
        socket.set_keep_alive(options.keep_alive);
        self.statistics.resumed += 1;
        true
    }

    fn park(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(engine) = connection.engine.take() else {
            return;
        };
        self.engines.release(engine);
        self.statistics.parked += 1;
        self.rest(index);
    }

    /// Arms the timer of a connection without an engine.
    pub(crate) fn rest(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(port) = self.ports.get(connection.port) else {
            return;
        };
        let timeout = port.terms.timeout;
        connection.deadline = timeout.map(|timeout| connection.last_activity + timeout);
        connection.armed = self.timers.arm(
            Timer::Connection(index),
            connection.armed,
            connection.deadline,
        );
    }

    /// Takes an engine of these sizes from a connection that can do without it, or,
    /// if there is none, from one whose peer takes nothing any more.
    fn relieve(&mut self, sizes: BufferSizes) -> bool {
        // All engines were looked at already, and nothing has changed since.
        if self.relieve_failed == Some(self.now) {
            return false;
        }
        let (now, connections) = (self.now, &self.connections);
        let idle = self
            .engines
            .find(sizes, |user, socket| {
                connections.get(user).is_some_and(|connection| {
                    may_park(connection, socket) && connection.last_activity + PARK_AFTER < now
                })
            })
            .or_else(|| {
                // Else a peer could keep its engine by probing us all the time.
                self.engines.find(sizes, |user, socket| {
                    connections.get(user).is_some_and(|connection| {
                        may_park(connection, socket) && connection.has_acknowledged()
                    })
                })
            });
        if let Some(index) = idle {
            self.park(index);
            return true;
        }
        let stuck = self.engines.find(sizes, |user, socket| {
            connections
                .get(user)
                .is_some_and(|connection| is_stuck(connection, socket, now))
        });
        if let Some(index) = stuck {
            self.statistics.stuck += 1;
            self.reset(index, CloseReason::TimedOut);
            return true;
        }
        self.relieve_failed = Some(now);
        false
    }

    /// Does to the engine what the application asked for while there was none.
    pub(crate) fn apply_requests(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(engine) = connection.engine else {
            return;
        };
        let socket = self.engines.get(engine).socket();
        if connection.abort_requested {
            socket.abort();
        } else if connection.close_requested {
            socket.close();
        }
    }
}

/// Whether a connection can do without its engine, if what was received has been
/// acknowledged: nothing is under way in either direction.
fn may_park(connection: &Connection, socket: &tcp::Socket<'static>) -> bool {
    socket.state() == tcp::State::Established
        && socket.send_queue() == 0
        && socket.recv_queue() == 0
        && socket.keep_alive().is_none()
        && !connection.touched
        && !connection.close_requested
        && !connection.abort_requested
}

/// Whether a connection's engine may be taken from it though it is not idle: its
/// peer has taken nothing for too long of what is sent to it, or does not close a
/// connection that we have closed.
fn is_stuck(connection: &Connection, socket: &tcp::Socket<'static>, now: Instant) -> bool {
    if connection.touched {
        return false;
    }
    let flight = &connection.flight;
    if socket.send_queue() > 0 {
        let waits = flight.first != connection.send_next || connection.window == 0;
        return waits && flight.stalled_since() + STUCK_AFTER < now;
    }
    // Not since the last segment: whatever it sends now, nobody reads it.
    connection.close_requested && flight.progress() + UNCLOSED_AFTER < now
}
