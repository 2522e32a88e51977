//! Datagrams of the peer.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use super::PeerHost;

/// A UDP socket of a [`PeerHost`]. Its frames meet what the cable does to them.
pub struct PeerDatagrams {
    host: PeerHost,
    handle: SocketHandle,
}

impl PeerHost {
    /// Makes a UDP socket on a port not used before.
    ///
    /// # Errors
    /// If there is none.
    pub fn datagrams(&self) -> io::Result<PeerDatagrams> {
        let handle = self.shared.stack().bind_datagrams()?;
        Ok(PeerDatagrams {
            host: self.clone(),
            handle,
        })
    }
}

impl PeerDatagrams {
    /// Sends a datagram.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if too many wait already; if the machine has ended.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let mut stack = self.host.shared.stack();
        if stack.ended() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let socket = stack.datagrams(self.handle);
        match socket.send_slice(bytes, (*to.ip(), to.port())) {
            Ok(()) => {}
            Err(udp::SendError::BufferFull) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(io::Error::other(error)),
        }
        stack.poll();
        Ok(())
    }

    /// The next datagram, if one has come, and where from.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn try_receive(&self) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let mut stack = self.host.shared.stack();
        if let Ok((bytes, from)) = stack.datagrams(self.handle).recv() {
            let address = IpAddr::from(from.endpoint.addr);
            let from = SocketAddr::new(address, from.endpoint.port);
            return Ok(Some((bytes.to_vec(), from)));
        }
        if stack.ended() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(None)
    }
}

impl Drop for PeerDatagrams {
    fn drop(&mut self) {
        self.host.shared.stack().remove(self.handle);
    }
}
