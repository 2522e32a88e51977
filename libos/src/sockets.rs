//! The calls of the application.

use crate::address::Address;
use crate::config::{BindError, CloseReason, ConnectionId, Protocol, UdpId};
use crate::connection::Connection;
use crate::stack::Stack;
use crate::wire::{ETHERNET_HEADER, IPV6_HEADER};
use core::net::SocketAddr;
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;

impl Stack {
    #[inline]
    fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get_of(id.index, id.generation)
    }

    #[inline]
    fn find_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut_of(id.index, id.generation)
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut tcp::Socket<'static>> {
        let engine = self.find(id)?.engine?;
        Some(self.engines.get(engine).socket())
    }

    fn socket_ref(&self, id: ConnectionId) -> Option<&tcp::Socket<'static>> {
        let engine = self.find(id)?.engine?;
        Some(self.engines.get_ref(engine).socket_ref())
    }

    /// Bytes received and not yet read.
    pub fn receive_queue(&self, id: ConnectionId) -> usize {
        self.socket_ref(id).map_or(0, |socket| socket.recv_queue())
    }

    /// Copies received bytes to `to` and removes them. Returns how many.
    pub fn receive(&mut self, id: ConnectionId, to: &mut [u8]) -> usize {
        let taken = self
            .socket(id)
            .map_or(0, |socket| socket.recv_slice(to).unwrap_or(0));
        if taken > 0 {
            self.touch(id.index);
        }
        taken
    }

    /// The first received bytes, as far as they lie together.
    pub fn peek(&mut self, id: ConnectionId) -> &[u8] {
        match self.socket(id) {
            Some(socket) => socket.peek(usize::MAX).unwrap_or(&[]),
            None => &[],
        }
    }

    /// Copies received bytes to `to` and leaves them there. Returns how many.
    pub fn peek_copy(&mut self, id: ConnectionId, to: &mut [u8]) -> usize {
        self.socket(id)
            .map_or(0, |socket| socket.peek_slice(to).unwrap_or(0))
    }

    /// Removes received bytes, at most as many as wait.
    pub fn consume(&mut self, id: ConnectionId, count: usize) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let mut left = count;
        while left > 0 && socket.can_recv() {
            let taken = socket
                .recv(|bytes| (bytes.len().min(left), bytes.len().min(left)))
                .unwrap_or(0);
            if taken == 0 {
                break;
            }
            left -= taken;
        }
        if left < count {
            self.touch(id.index);
        }
    }

    /// Queues bytes to send, as many as fit. If not all fit, there will be a
    /// [`crate::Ready::writable`].
    pub fn send(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        self.queue_bytes(id, bytes.len(), |socket| {
            socket.send_slice(bytes).unwrap_or(0)
        })
    }

    /// Lets `write` fill free space of the send buffer, as far as it lies
    /// together, and queues as many bytes as it says. If it fills all of it, or
    /// there is none, there will be a [`crate::Ready::writable`].
    pub fn send_with(&mut self, id: ConnectionId, write: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let mut space = 0;
        let mut write = Some(write);
        let mut wanted = usize::MAX;
        let queued = self.queue_bytes(id, 0, |socket| {
            socket
                .send(|bytes| {
                    space = bytes.len();
                    let count = match write.take() {
                        Some(write) if space > 0 => write(bytes).min(space),
                        _ => 0,
                    };
                    (count, count)
                })
                .unwrap_or(0)
        });
        if queued < space {
            wanted = queued;
        }
        if queued < wanted
            && let Some(connection) = self.find_mut(id)
        {
            connection.wants_room = true;
        }
        queued
    }

    fn queue_bytes(
        &mut self,
        id: ConnectionId,
        wanted: usize,
        queue: impl FnOnce(&mut tcp::Socket<'static>) -> usize,
    ) -> usize {
        let Some(connection) = self.find(id) else {
            return 0;
        };
        if connection.close_requested
            || connection.abort_requested
            || connection.ended.is_some()
            || connection.opening.is_some()
        {
            return 0;
        }
        if !self.resume(id.index) {
            self.starve(id.index);
            return 0;
        }
        let Some(socket) = self.socket(id) else {
            return 0;
        };
        let was_empty = socket.send_queue() == 0;
        let queued = queue(socket);
        // More is to come: let the last, short segment wait for it (RFC 9293,
        // 3.7.4). Else let it go at once.
        let cut_short = queued < wanted;
        socket.set_nagle_enabled(cut_short);
        if cut_short && let Some(connection) = self.find_mut(id) {
            connection.wants_room = true;
        }
        let now = self.now;
        if was_empty && let Some(connection) = self.find_mut(id) {
            connection.flight.begin(now);
        }
        self.touch(id.index);
        queued
    }

    /// Puts a connection in line for an engine.
    fn starve(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.wants_room = true;
            if !connection.starved {
                connection.starved = true;
                self.starved.push_back(index);
            }
        }
    }

    /// Bytes that [`Stack::send`] would take now.
    pub fn send_space(&self, id: ConnectionId) -> usize {
        let Some(connection) = self.find(id) else {
            return 0;
        };
        match connection.engine {
            Some(engine) => {
                let socket = self.engines.get_ref(engine).socket_ref();
                if socket.may_send() {
                    socket.send_capacity() - socket.send_queue()
                } else {
                    0
                }
            }
            None if connection.ended.is_some() || connection.opening.is_some() => 0,
            None => self
                .port_terms(connection.port)
                .map_or(0, |options| options.buffers.send),
        }
    }

    /// Bytes queued and not yet acknowledged by the peer.
    pub fn send_queue(&self, id: ConnectionId) -> usize {
        self.socket_ref(id).map_or(0, |socket| socket.send_queue())
    }

    /// Whether the peer sends no more.
    pub fn peer_closed(&self, id: ConnectionId) -> bool {
        self.socket_ref(id)
            .is_some_and(|socket| crate::stack::is_end(socket.state()))
    }

    /// The other end of a connection.
    pub fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        Some(self.find(id)?.key.peer())
    }

    /// Both ends of a connection, ours first.
    pub fn connection_name(&self, id: ConnectionId) -> Option<(SocketAddr, SocketAddr)> {
        let key = self.find(id)?.key;
        let ours = SocketAddr::new(key.local.ip(), key.local_port);
        Some((ours, key.peer()))
    }

    /// Sends no more after what is queued, and reads no more.
    pub fn close(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.find(id) else {
            return;
        };
        if connection.ended.is_some() || connection.close_requested {
            return;
        }
        if connection.opening.is_some() {
            self.give_up_opening(id.index);
            return;
        }
        let linger = self
            .port_terms(connection.port)
            .map(|options| options.linger);
        if let Some(connection) = self.find_mut(id) {
            connection.close_requested = true;
            connection.linger_until = linger.map(|linger| now + linger);
        }
        if self.resume(id.index) {
            self.apply_requests(id.index);
            self.touch(id.index);
        } else {
            self.starve(id.index);
        }
    }

    /// Ends a connection at once, with a RST.
    pub fn abort(&mut self, id: ConnectionId) {
        let Some(connection) = self.find_mut(id) else {
            return;
        };
        if connection.ended.is_some() {
            return;
        }
        if connection.opening.is_some() {
            self.give_up_opening(id.index);
            return;
        }
        connection.abort_requested = true;
        if connection.engine.is_none() {
            self.reset(id.index, CloseReason::Aborted);
        } else {
            self.apply_requests(id.index);
            self.touch(id.index);
        }
    }

    /// Makes a UDP socket for both families on a port, if the port authority grants it; port 0 lets
    /// it choose one. `bytes` of datagrams are held each way. Returns the socket
    /// and its port.
    pub fn udp_bind(&mut self, port: u16, bytes: usize) -> Result<(UdpId, u16), BindError> {
        let port = if port == 0 {
            self.authority.bind_any(Protocol::Udp)?
        } else {
            self.authority.bind(Protocol::Udp, port)?;
            port
        };
        match self.others.bind(port, bytes) {
            Some(id) => Ok((id, port)),
            None => {
                self.authority.release(Protocol::Udp, port);
                Err(BindError::Invalid)
            }
        }
    }

    /// Ends a UDP socket and gives its port back.
    pub fn udp_close(&mut self, id: UdpId) {
        if let Some(port) = self.others.close(id) {
            self.authority.release(Protocol::Udp, port);
        }
    }

    /// Queues a datagram. Returns false if there is no room, or no way to `to`, or
    /// if it is too long: over IPv6 it has to fit a frame.
    pub fn udp_send(&mut self, id: UdpId, to: SocketAddr, payload: &[u8]) -> bool {
        let remote = Address::from(to.ip());
        let frame = self.vif.capabilities().maximum_frame;
        if self.local.next_hop(remote).is_none()
            || !remote.is_ipv4() && ETHERNET_HEADER + IPV6_HEADER + 8 + payload.len() > frame
        {
            return false;
        }
        let endpoint = IpEndpoint::new(remote.ip().into(), to.port());
        self.others
            .socket(id)
            .is_some_and(|socket| socket.send_slice(payload, endpoint).is_ok())
    }

    /// Takes the next datagram: copies as much of it as fits to `payload`. Returns
    /// its length and sender.
    pub fn udp_receive(&mut self, id: UdpId, payload: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (bytes, from) = self.others.socket(id)?.recv().ok()?;
        let length = bytes.len().min(payload.len());
        payload[..length].copy_from_slice(&bytes[..length]);
        let from = SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port);
        Some((bytes.len(), from))
    }
}
