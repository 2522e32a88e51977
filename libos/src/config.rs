//! What a stack is told when it is made, and what it reports.

use crate::connection::Terms;
use crate::engine::BufferSizes;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use smoltcp::time::Duration;

/// Addresses and limits of a [`crate::Stack`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The interface's hardware address, unicast.
    pub hardware_address: [u8; 6],
    /// The interface's addresses; [`crate::Stack::set_addresses`] changes them.
    pub addresses: Addresses,
    /// Unpredictable to peers: initial sequence numbers and the seeds of hash
    /// tables come from it.
    pub seed: [u64; 2],
    /// Connections that may be open at once, idle ones included. Each costs
    /// about 300 bytes, and buffers while it is not idle.
    pub maximum_connections: usize,
    /// Bytes that the buffers of all connections may take together.
    pub buffer_memory: usize,
    /// Connections remembered in TIME_WAIT, about 120 bytes each. The oldest
    /// makes room for a new one.
    pub maximum_time_wait: usize,
}

/// Addresses of an interface, beside the IPv6 link-local one that follows from its
/// hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The IPv4 address, if there is one.
    pub ipv4: Option<Network<Ipv4Addr>>,
    /// The IPv6 address, if there is one.
    pub ipv6: Option<Network<Ipv6Addr>>,
}

/// An address and the network that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<A> {
    /// The interface's address.
    pub address: A,
    /// Length of the network's prefix: at most 32 for IPv4, 128 for IPv6.
    pub prefix_length: u8,
    /// The router to other networks, if there is one.
    pub gateway: Option<A>,
}

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Handshakes that may be under way at once, about 150 bytes each.
    pub backlog: usize,
    /// What happens to a SYN when the backlog is full.
    pub overflow: Overflow,
    /// Buffers of a connection that is not idle.
    pub buffers: BufferSizes,
    /// A handshake not completed after this is given up.
    pub handshake_timeout: Duration,
    /// A connection is reset when it waits for its peer this long: for an
    /// acknowledgement, an answer to a keep-alive probe, or, without probes,
    /// any sign at all. `None`: for ever.
    pub timeout: Option<Duration>,
    /// How often an idle connection asks its peer for a sign of life. A
    /// connection with probes keeps its buffers.
    pub keep_alive: Option<Duration>,
    /// After `close`, how long the peer may take to close too.
    pub linger: Duration,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            overflow: Overflow::EvictOldest,
            buffers: BufferSizes {
                receive: 8 * 1024,
                send: 128 * 1024,
            },
            handshake_timeout: Duration::from_secs(10),
            timeout: Some(Duration::from_secs(120)),
            keep_alive: None,
            linger: Duration::from_secs(30),
        }
    }
}

impl ListenOptions {
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            buffers: self.buffers,
            handshake_timeout: self.handshake_timeout,
            timeout: self.timeout,
            keep_alive: self.keep_alive,
            linger: self.linger,
        }
    }
}

/// How a connection is opened, and what it lives by.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// The local port; `None` lets the port authority choose one.
    pub local_port: Option<u16>,
    /// Buffers while it is not idle.
    pub buffers: BufferSizes,
    /// How long the peer may take to answer. SYNs are repeated after 1, 3, 7, ... s.
    pub connect_timeout: Duration,
    /// As [`ListenOptions::timeout`].
    pub timeout: Option<Duration>,
    /// As [`ListenOptions::keep_alive`].
    pub keep_alive: Option<Duration>,
    /// As [`ListenOptions::linger`].
    pub linger: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let listen = ListenOptions::default();
        Self {
            local_port: None,
            buffers: listen.buffers,
            // RFC 9293, 3.8.3: at least three minutes.
            connect_timeout: Duration::from_secs(180),
            timeout: listen.timeout,
            keep_alive: listen.keep_alive,
            linger: listen.linger,
        }
    }
}

impl ConnectOptions {
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            buffers: self.buffers,
            handshake_timeout: self.connect_timeout,
            timeout: self.timeout,
            keep_alive: self.keep_alive,
            linger: self.linger,
        }
    }
}

/// What happens to a SYN when a listener's backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The handshake that waits longest makes room: under a flood of forged
    /// SYNs, real peers get through if they answer in time.
    EvictOldest,
    /// The SYN is dropped; the peer tries again.
    Drop,
    /// The SYN is answered with a RST.
    Reset,
}

/// Names a connection. It stays unique after the connection has ended: calls
/// with an id of the past do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// A number below [`Config::maximum_connections`], used again after the
    /// connection has ended.
    pub fn index(&self) -> usize {
        self.index as usize
    }
}

/// Names a listener. It stays unique after the listener was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId {
    pub(crate) port: u32,
    pub(crate) serial: u32,
}

/// Names a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpId(pub(crate) u32);

/// Something the application should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection has been made.
    Accepted {
        /// By this listener.
        listener: ListenerId,
        /// The connection.
        connection: ConnectionId,
        /// The other end.
        peer: SocketAddr,
    },
    /// A connection that this stack has opened is open.
    Connected {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection has something to read or room to write. At most one for each
    /// connection and call of [`crate::Stack::poll`].
    Ready {
        /// The connection.
        connection: ConnectionId,
        /// What it is ready for.
        ready: Ready,
    },
    /// A connection has ended. Its last event; the id means nothing any more.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// How it ended.
        reason: CloseReason,
    },
    /// A UDP socket has received something.
    Datagram {
        /// The socket.
        socket: UdpId,
    },
}

/// What a connection is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes have come in.
    pub readable: bool,
    /// A send was cut short before, and now there is room.
    pub writable: bool,
    /// The peer sends no more. Bytes from before may still wait to be read.
    pub peer_closed: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed, everything was delivered.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer answered the attempt to open it with a reset.
    Refused,
    /// There is no way to the peer: nobody has its hardware address, or a router says
    /// so. Only before it was open.
    Unreachable,
    /// The peer did not answer in time.
    TimedOut,
    /// The application aborted it.
    Aborted,
    /// The address of ours that it was made with is ours no more.
    AddressLost,
}

/// Transport protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Who says which ports this stack may use. A port is taken for all families of
/// addresses.
pub trait PortAuthority {
    /// Takes a port.
    fn bind(&mut self, protocol: Protocol, port: u16) -> Result<(), BindError>;
    /// Takes any free ephemeral port.
    fn bind_any(&mut self, protocol: Protocol) -> Result<u16, BindError>;
    /// Gives a port back.
    fn release(&mut self, protocol: Protocol, port: u16);
    /// Says that a port has connections in TIME_WAIT for so long from now: if this
    /// program dies meanwhile, nobody else may have the port before.
    fn hold(&mut self, protocol: Protocol, port: u16, duration: Duration);
}

/// Why a port could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// Someone else has the port, or all ephemeral ports are taken.
    AddressInUse,
    /// This application may not have it.
    NotAllowed,
    /// The port authority does not answer as it should.
    Authority,
    /// The buffer sizes or the port number make no sense.
    Invalid,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressInUse => "the port is in use",
            Self::NotAllowed => "this application may not have the port",
            Self::Authority => "the port authority gave an answer that means nothing",
            Self::Invalid => "port 0, or a buffer size out of range, cannot be bound",
        })
    }
}

impl core::error::Error for BindError {}

/// Why opening a connection was not even tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// There is no local port for it.
    Port(BindError),
    /// The interface has no address, or no router, to get there.
    NoRoute,
    /// There are as many connections as there may be.
    TooManyConnections,
    /// Nobody can be at that address or port, or a buffer size is out of range.
    Invalid,
}

impl From<BindError> for ConnectError {
    fn from(error: BindError) -> Self {
        Self::Port(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port(error) => return write!(f, "no local port: {error}"),
            Self::NoRoute => "there is no route to the address",
            Self::TooManyConnections => "there are too many connections",
            Self::Invalid => {
                "nobody can be connected to at this address, or a buffer size is out of range"
            }
        })
    }
}

impl core::error::Error for ConnectError {}

/// Lets a stack use every port: for tests, and for an application that has an
/// address of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryPort {
    next: u16,
}

impl PortAuthority for EveryPort {
    fn bind(&mut self, _: Protocol, _: u16) -> Result<(), BindError> {
        Ok(())
    }
    fn bind_any(&mut self, _: Protocol) -> Result<u16, BindError> {
        // RFC 6335, 6: dynamic ports are 49152 to 65535.
        let port = 49_152 + self.next % 16_384;
        self.next = self.next.wrapping_add(1);
        Ok(port)
    }
    fn release(&mut self, _: Protocol, _: u16) {}
    fn hold(&mut self, _: Protocol, _: u16, _: Duration) {}
}
