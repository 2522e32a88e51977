//! The local TCP ports: who listens on them, who uses them, when they go back.
//!
//! A port is taken from the port authority by a listener or by an active open, and
//! goes back when its last user is gone: the listener, a handshake, a connection, or
//! what is left of one in TIME_WAIT. So it outlives a listener that was closed.

use crate::config::{BindError, CloseReason, ListenOptions, ListenerId, Protocol};
use crate::connection::Terms;
use crate::stack::Stack;
use alloc::collections::VecDeque;
use smoltcp::time::{Duration, Instant};

/// How much longer than needed a listener's port is said to be held: at most one
/// message in this time tells of any number of connections in TIME_WAIT.
const HOLD_MARGIN: Duration = Duration::from_secs(5);

/// A local port in use.
pub struct Port {
    pub number: u16,
    /// What its connections live by.
    pub terms: Terms,
    /// Handshakes, connections and TIME_WAIT entries, and one for a listener.
    users: usize,
    pub listener: Option<Listener>,
    /// Until when the authority knows that there is a connection in TIME_WAIT.
    held_until: Option<Instant>,
}

/// Accepts connections on a port.
pub struct Listener {
    /// Differs from that of an earlier listener on the port.
    pub serial: u32,
    pub options: ListenOptions,
    pub handshakes: usize,
    /// Handshakes in the order they began, with their generations; some are over.
    pub order: VecDeque<(u32, u32)>,
}

impl Stack {
    /// Accepts connections on a port over both families, if the port authority grants it. A port whose
    /// listener was closed can be had again while its connections go on; they then
    /// live by the new options.
    pub fn listen(&mut self, port: u16, options: ListenOptions) -> Result<ListenerId, BindError> {
        if port == 0 || !options.buffers.are_usable() {
            return Err(BindError::Invalid);
        }
        let index = match self.port_numbers.get(&port).copied() {
            Some(index) => {
                let known = self.ports.get_mut(index).ok_or(BindError::Invalid)?;
                if known.listener.is_some() {
                    return Err(BindError::AddressInUse);
                }
                known.terms = options.terms();
                index
            }
            None => {
                self.authority.bind(Protocol::Tcp, port)?;
                self.add_port(port, options.terms())
            }
        };
        let serial = self.next_listener;
        self.next_listener = serial.wrapping_add(1);
        self.use_port(index);
        if let Some(port) = self.ports.get_mut(index) {
            port.listener = Some(Listener {
                serial,
                options,
                handshakes: 0,
                order: VecDeque::new(),
            });
        }
        Ok(ListenerId {
            port: index,
            serial,
        })
    }

    /// Accepts no more connections. Handshakes, and connections that the application
    /// has not been told of, are reset; those that it knows go on, and the port stays
    /// taken until the last of them has ended.
    pub fn close_listener(&mut self, id: ListenerId) {
        let Some(port) = self.ports.get_mut(id.port) else {
            return;
        };
        if port.listener.as_ref().map(|listener| listener.serial) != Some(id.serial) {
            return;
        }
        let order = port.listener.take().map(|listener| listener.order);
        for (index, generation) in order.into_iter().flatten() {
            if self.handshakes.generation(index) == generation {
                self.reset_handshake(index);
            }
        }
        for index in self.connections.indices() {
            if let Some(connection) = self.connections.get(index)
                && connection.port == id.port
                && connection.is_new()
                && connection.ended.is_none()
            {
                self.reset(index, CloseReason::Aborted);
            }
        }
        self.leave_port(id.port);
    }

    /// Notes a port that the authority has granted. It has no user yet.
    pub(crate) fn add_port(&mut self, number: u16, terms: Terms) -> u32 {
        let port = Port {
            number,
            terms,
            users: 0,
            listener: None,
            held_until: None,
        };
        // The slab has no limit: there are no more than 65,535 numbers.
        let index = self.ports.insert(port).unwrap_or(u32::MAX);
        self.port_numbers.insert(number, index);
        index
    }

    /// Counts a user of a port.
    pub(crate) fn use_port(&mut self, index: u32) {
        if let Some(port) = self.ports.get_mut(index) {
            port.users += 1;
        }
    }

    /// Counts a user less. The last one gives the port back.
    pub(crate) fn leave_port(&mut self, index: u32) {
        let Some(port) = self.ports.get_mut(index) else {
            return;
        };
        port.users -= 1;
        if port.users > 0 {
            return;
        }
        let number = port.number;
        self.ports.remove(index);
        self.port_numbers.remove(&number);
        self.authority.release(Protocol::Tcp, number);
    }

    /// Makes sure that the authority knows that a port has a connection in TIME_WAIT
    /// for `duration` from now: should this program die, nobody gets the port before.
    pub(crate) fn hold_port(&mut self, index: u32, duration: Duration) {
        let now = self.now;
        let Some(port) = self.ports.get_mut(index) else {
            return;
        };
        if port.held_until.is_some_and(|until| until >= now + duration) {
            return;
        }
        let told = match port.listener {
            Some(_) => duration + HOLD_MARGIN,
            None => duration,
        };
        port.held_until = Some(now + told);
        self.authority.hold(Protocol::Tcp, port.number, told);
    }

    pub(crate) fn port_terms(&self, port: u32) -> Option<&Terms> {
        Some(&self.ports.get(port)?.terms)
    }

    pub(crate) fn listener_mut(&mut self, port: u32) -> Option<&mut Listener> {
        self.ports.get_mut(port)?.listener.as_mut()
    }

    /// The port with this number, if somebody listens on it.
    pub(crate) fn listening_port(&self, number: u16) -> Option<u32> {
        let index = *self.port_numbers.get(&number)?;
        self.ports.get(index)?.listener.as_ref()?;
        Some(index)
    }

    /// Local TCP ports in use.
    pub fn open_ports(&self) -> usize {
        self.ports.len()
    }
}
