//! UDP sockets of whatever host a test has.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Host, PeerDatagrams};

/// Longest datagram that is received whole.
const LENGTH: usize = 65_507;
/// How long to rest when nothing has come.
const REST: Duration = Duration::from_micros(200);

/// A UDP socket.
pub enum Datagrams {
    /// One of the operating system's.
    System(UdpSocket),
    /// One of the peer's.
    Peer(PeerDatagrams),
}

impl Host {
    /// Makes a UDP socket from which datagrams reach every application.
    ///
    /// # Errors
    /// If there is none; [`ErrorKind::Unsupported`] on QEMU's own network, which lets none in.
    pub fn datagrams(&self) -> io::Result<Datagrams> {
        match self {
            Self::Forwarded(_) => Err(io::Error::new(
                ErrorKind::Unsupported,
                "no datagram reaches the machine through QEMU's own network",
            )),
            Self::Namespace(namespace) => {
                let socket = namespace.run(|| UdpSocket::bind("0.0.0.0:0"));
                let socket = socket.map_err(io::Error::other)??;
                socket.set_nonblocking(true)?;
                Ok(Datagrams::System(socket))
            }
            Self::Peer(peer) => peer.datagrams().map(Datagrams::Peer),
        }
    }
}

impl Datagrams {
    /// Sends a datagram.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if too many wait already.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        match self {
            Self::System(socket) => socket.send_to(bytes, to).map(|_| ()),
            Self::Peer(socket) => socket.send_to(bytes, to),
        }
    }

    /// The next datagram, if one has come, and where from.
    ///
    /// # Errors
    /// If none can come any more.
    pub fn try_receive(&self) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let socket = match self {
            Self::System(socket) => socket,
            Self::Peer(socket) => return socket.try_receive(),
        };
        let mut bytes = vec![0; LENGTH];
        match socket.recv_from(&mut bytes) {
            Ok((length, from)) => {
                bytes.truncate(length);
                Ok(Some((bytes, from)))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next datagram, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// As [`Self::try_receive`].
    pub fn receive(&self, timeout: Duration) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(datagram) = self.try_receive()? {
                return Ok(Some(datagram));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(REST));
        }
    }
}
