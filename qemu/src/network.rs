//! What the machine's NIC is connected to.

use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// A TCP port of the host that leads to a port of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1; `None` takes any free one.
    pub host_port: Option<u16>,
    /// Address inside the machine.
    pub address: Ipv4Addr,
    /// Port inside the machine.
    pub port: u16,
}

impl Forward {
    /// `host_port` (any free one if `None`) leads to the default application, 10.0.2.15 port 80.
    pub fn http(host_port: Option<u16>) -> Self {
        Self {
            host_port,
            address: Ipv4Addr::new(10, 0, 2, 15),
            port: 80,
        }
    }

    pub(crate) fn option(&self) -> String {
        format!(
            ",hostfwd=tcp:127.0.0.1:{}-{}:{}",
            self.host_port.unwrap_or(0),
            self.address,
            self.port
        )
    }

    /// QEMU's own message for a busy port names neither the cause nor a remedy.
    pub(crate) fn check_free(&self) -> Result<(), Error> {
        let Some(port) = self.host_port else {
            return Ok(());
        };
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Err(Error::CannotStart(format!(
                    "port {port} of 127.0.0.1 is in use by another program: \
                     stop that program or choose another port (make run PORT={}).",
                    if port < u16::MAX { port + 1 } else { 8080 }
                )))
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Error::CannotStart(format!(
                    "port {port} of 127.0.0.1 may be opened by root only: choose one above 1023."
                )))
            }
            Err(error) => Err(Error::cannot_start(
                format!("port {port} of 127.0.0.1"),
                error,
            )),
        }
    }
}

/// What the machine's NIC is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No NIC in the machine at all.
    NoDevice,
    /// QEMU's own network (10.0.2.0/24 and fd00:5e60::/64, host 10.0.2.2 and fd00:5e60::2): needs
    /// nothing, but is slow.
    User(Vec<Forward>),
    /// A tap device at 10.0.2.2/24 and fd00:5e60::2/64 in a network namespace made for this
    /// machine. Needs root.
    Tap,
    /// A [`Peer`](crate::Peer) in this process that sees and sends raw frames.
    Peer,
    /// The same, but the peer is another process that listens on this Unix socket.
    PeerSocket(std::path::PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_a_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let sentence = Forward::http(Some(port))
            .check_free()
            .unwrap_err()
            .to_string();
        assert!(
            sentence.contains(&format!("port {port} of 127.0.0.1 is in use")),
            "{sentence}"
        );
        assert!(sentence.contains("make run PORT="), "{sentence}");
        assert!(Forward::http(None).check_free().is_ok());
    }
}
