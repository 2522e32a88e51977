//! Where a test connects from.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use segue_qemu::NetworkNamespace;

use crate::{PeerHost, PeerStream};

/// How long a connection may stand still before a test fails.
pub(crate) const STILL: Duration = Duration::from_secs(120);

/// Address of the default application inside the machine.
pub(crate) const APPLICATION: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Where a test connects from. Cloning gives another handle to the same host.
#[derive(Clone)]
pub enum Host {
    /// This machine, through a port that QEMU forwards.
    Forwarded(u16),
    /// A network namespace with a tap device.
    Namespace(Arc<NetworkNamespace>),
    /// The other end of the machine's cable.
    Peer(PeerHost),
}

/// A connection to the application.
pub enum Connection {
    /// One of the operating system's.
    System(TcpStream),
    /// One of the peer's.
    Peer(PeerStream),
}

impl Host {
    /// Connects to port 80 of the application.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Forwarded(port) => system(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))),
            Self::Namespace(namespace) => namespace
                .run(|| system(SocketAddr::from((APPLICATION, 80))))
                .map_err(io::Error::other)?,
            Self::Peer(peer) => peer.connect(80).map(Connection::Peer),
        }
    }

    /// Connects to any port of any application.
    ///
    /// # Errors
    /// As [`Self::connect`]; [`io::ErrorKind::Unsupported`] if QEMU forwards nothing there.
    pub fn connect_to(&self, to: SocketAddrV4) -> io::Result<Connection> {
        match self {
            Self::Forwarded(_) if to == SocketAddrV4::new(APPLICATION, 80) => self.connect(),
            Self::Forwarded(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("QEMU forwards no port to {to}"),
            )),
            Self::Namespace(namespace) => namespace
                .run(|| system(SocketAddr::V4(to)))
                .map_err(io::Error::other)?,
            Self::Peer(peer) => peer.connect_to(to).map(Connection::Peer),
        }
    }

    /// The peer, if the host is one.
    pub fn peer(&self) -> Option<&PeerHost> {
        match self {
            Self::Peer(peer) => Some(peer),
            _ => None,
        }
    }
}

fn system(address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STILL))?;
    stream.set_write_timeout(Some(STILL))?;
    Ok(Connection::System(stream))
}

impl Connection {
    /// Has it ask now and then whether the other end still knows it, while nothing else is to be sent.
    ///
    /// # Errors
    /// If the operating system cannot.
    pub fn keep_alive(&self) -> io::Result<()> {
        if let Self::System(stream) = self {
            const SECONDS: u32 = 1;
            setsockopt(stream, sockopt::KeepAlive, &true)?;
            setsockopt(stream, sockopt::TcpKeepIdle, &SECONDS)?;
            setsockopt(stream, sockopt::TcpKeepInterval, &SECONDS)?;
            // So many without an answer end it: as many as anything here may stand still.
            setsockopt(stream, sockopt::TcpKeepCount, &(STILL.as_secs() as u32))?;
        }
        Ok(())
    }

    /// Ends our direction; the other goes on.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::System(stream) => stream.shutdown(Shutdown::Write),
            Self::Peer(stream) => {
                stream.close();
                Ok(())
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::System(stream) => stream.read(buffer),
            Self::Peer(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::System(stream) => stream.write(buffer),
            Self::Peer(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
