//! Deadlines, and the ends of connections.

use crate::config::CloseReason;
use crate::connection::TimeWait;
use crate::stack::Stack;
use crate::timers::Timer;
use crate::wire::{ACK, Control, RST, Segment};
use smoltcp::socket::tcp;

impl Stack {
    /// Ends a connection whose engine is done with it. `drained` says that the
    /// engine has nothing more to send for now.
    #[inline]
    pub(crate) fn end_if_closed(&mut self, index: u32, reason: CloseReason, drained: bool) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let Some(engine) = connection.engine else {
            return;
        };
        // Nearly always it goes on.
        let state = self.engines.get_ref(engine).socket_ref().state();
        if state != tcp::State::Established || connection.close_requested {
            self.end_if_done(index, engine, reason, drained);
        }
    }

    #[inline(never)]
    fn end_if_done(&mut self, index: u32, engine: usize, reason: CloseReason, drained: bool) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection.close_requested {
            // Nobody reads any more. What still comes in is acknowledged and
            // dropped, so that the peer gets to see our last bytes and our FIN.
            let socket = self.engines.get(engine).socket();
            while socket.can_recv() {
                if socket.recv(|bytes| (bytes.len(), ())).is_err() {
                    break;
                }
            }
        }
        let socket = self.engines.get_ref(engine).socket_ref();
        match socket.state() {
            tcp::State::Closed if socket.remote_endpoint().is_none() => self.end(index, reason),
            tcp::State::TimeWait if drained => {
                let remains = TimeWait {
                    key: connection.key,
                    port: connection.port,
                    send_next: connection.send_next,
                    receive_next: connection.receive_next,
                    wanted: None,
                };
                self.end(index, CloseReason::Finished);
                self.remember(remains);
            }
            _ => {}
        }
    }

    /// Ends a connection; the application is told.
    pub(crate) fn end(&mut self, index: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        self.timers
            .disarm(Timer::Connection(index), connection.armed.take());
        connection.ended = Some(reason);
        self.table.remove(&connection.key);
        if let Some(engine) = connection.engine.take() {
            self.engines.release(engine);
        }
        self.enqueue(index);
    }

    /// Deals with what is due.
    pub(crate) fn expire(&mut self) {
        let now = self.now;
        while let Some(timer) = self.timers.next_due(now) {
            match timer {
                Timer::Connection(index) => self.connection_due(index),
                Timer::Handshake(index) => self.handshake_due(index),
            }
        }
        while let Some(&(at, index, generation)) = self.time_wait_order.front() {
            if at > now && !self.time_waits.is_full() {
                break;
            }
            self.time_wait_order.pop_front();
            if self.time_waits.generation(index) == generation {
                self.forget(index);
            }
        }
    }

    fn connection_due(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        connection.armed = None;
        if connection.deadline.is_none_or(|deadline| deadline > now) {
            connection.armed = self
                .timers
                .arm(Timer::Connection(index), None, connection.deadline);
            return;
        }
        if connection.opening.is_some() {
            self.go_on_opening(index);
            return;
        }
        if connection.engine.is_none() {
            self.reset(index, CloseReason::TimedOut);
            return;
        }
        if connection.linger_until.is_some_and(|until| until <= now) {
            connection.linger_until = None;
            connection.abort_requested = true;
            self.apply_requests(index);
        }
        self.probe(index);
        self.touch(index);
    }

    /// Takes in a RST to a connection. No engine is needed, or asked, for it: it
    /// would believe any number inside its window.
    pub(crate) fn reset_by_peer(&mut self, index: u32, segment: &Segment) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        if connection.ended.is_some() {
            return;
        }
        // RFC 5961, 3: only the exact number counts; near ones are asked about. It
        // is the one acknowledged last, or what has come in since.
        let exact = [connection.receive_next, connection.flight.received];
        if exact.contains(&segment.sequence) {
            self.end(index, CloseReason::Reset);
        } else if segment.sequence.wrapping_sub(connection.receive_next) <= 65_535 {
            self.challenge(index);
        }
    }

    /// Ends a connection at once, with a RST.
    pub(crate) fn reset(&mut self, index: u32, reason: CloseReason) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let control = Control {
            key: connection.key,
            sequence: connection.send_next,
            acknowledgement: connection.receive_next,
            flags: RST | ACK,
            window: 0,
            options: None,
        };
        let link = connection.link;
        self.send_control(&link, &control);
        self.end(index, reason);
    }
}
