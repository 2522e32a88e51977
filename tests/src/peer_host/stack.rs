//! The host's TCP/IP stack and its side of the cable.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV4;
use std::time::Instant;

use segue_qemu::FrameSender;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};

use super::device::Queues;
use crate::{Counts, Impairment};

/// Time of silence after which a connection that keeps itself alive asks.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(200);

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
pub(crate) const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
const RECEIVE_BUFFER: usize = 256 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
/// Datagrams that a socket holds each way, and their bytes.
const DATAGRAMS: usize = 4096;
const DATAGRAM_BUFFER: usize = 1 << 20;
const FIRST_PORT: u16 = 49152;

pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    queues: Queues,
    sender: FrameSender,
    to_machine: Impairment,
    from_machine: Impairment,
    /// Frames on their way to the machine.
    outgoing: VecDeque<Vec<u8>>,
    recorded: Option<VecDeque<Vec<u8>>>,
    /// Sockets that nobody holds any more, closing.
    leaving: Vec<SocketHandle>,
    port: u16,
    acknowledge_at_once: bool,
    keep_alive: bool,
    started: Instant,
    ended: bool,
}

impl Stack {
    pub(super) fn new(sender: FrameSender, seed: u64) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(ADDRESS.into(), 24))
                .expect("an interface has room for one address");
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            queues,
            sender,
            to_machine: Impairment::new(seed, 0),
            from_machine: Impairment::new(seed, 0),
            outgoing: VecDeque::new(),
            recorded: None,
            leaving: Vec::new(),
            port: FIRST_PORT,
            acknowledge_at_once: false,
            keep_alive: false,
            started: Instant::now(),
            ended: false,
        }
    }

    pub(super) fn impair(&mut self, to_machine: Impairment, from_machine: Impairment) {
        self.to_machine = to_machine;
        self.from_machine = from_machine;
    }

    pub(super) fn counts(&self) -> (Counts, Counts) {
        (self.to_machine.counts(), self.from_machine.counts())
    }

    pub(super) fn inject(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sender.send(frame)
    }

    pub(super) fn record(&mut self, on: bool) {
        self.recorded = on.then(VecDeque::new);
    }

    pub(super) fn next_recorded(&mut self) -> Option<Vec<u8>> {
        self.recorded.as_mut()?.pop_front()
    }

    pub(super) fn acknowledge_at_once(&mut self, on: bool) {
        self.acknowledge_at_once = on;
    }

    pub(super) fn keep_alive(&mut self, on: bool) {
        self.keep_alive = on;
    }

    pub(super) fn next_port(&mut self) -> u16 {
        let port = self.port;
        self.port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    pub(super) fn connect(&mut self, local: u16, to: SocketAddrV4) -> io::Result<SocketHandle> {
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        if self.acknowledge_at_once {
            socket.set_ack_delay(None);
        }
        if self.keep_alive {
            socket.set_keep_alive(Some(KEEP_ALIVE));
        }
        // What is left of an earlier connection from the same port must not answer for this one.
        self.forget(local)?;
        socket
            .connect(self.interface.context(), (*to.ip(), to.port()), local)
            .map_err(io::Error::other)?;
        let handle = self.sockets.add(socket);
        self.poll();
        Ok(handle)
    }

    fn forget(&mut self, local: u16) -> io::Result<()> {
        let mut kept = Vec::new();
        for handle in std::mem::take(&mut self.leaving) {
            let socket = self.sockets.get::<tcp::Socket>(handle);
            let same = socket.local_endpoint().is_some_and(|end| end.port == local);
            if same && socket.state() != tcp::State::TimeWait {
                kept.push(handle);
                self.leaving.extend(kept);
                return Err(io::ErrorKind::AddrInUse.into());
            }
            if same {
                self.sockets.remove(handle);
            } else {
                kept.push(handle);
            }
        }
        self.leaving = kept;
        Ok(())
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Makes a socket for datagrams on a port not used before.
    pub(super) fn bind_datagrams(&mut self) -> io::Result<SocketHandle> {
        let buffer = || {
            let slots = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
            udp::PacketBuffer::new(slots, vec![0; DATAGRAM_BUFFER])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        let port = self.next_port();
        socket.bind(port).map_err(io::Error::other)?;
        Ok(self.sockets.add(socket))
    }

    pub(super) fn datagrams(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The socket's owner has gone; it goes too once it is closed.
    pub(super) fn leave(&mut self, handle: SocketHandle) {
        self.leaving.push(handle);
    }

    /// Removes a socket without a word to the other side.
    pub(super) fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Removes sockets that have done their work.
    pub(super) fn sweep(&mut self) {
        let sockets = &mut self.sockets;
        self.leaving.retain(|&handle| {
            let done = sockets.get::<tcp::Socket>(handle).state() == tcp::State::Closed;
            if done {
                sockets.remove(handle);
            }
            !done
        });
    }

    pub(super) fn arrived(&mut self, frame: Vec<u8>) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push_back(frame.clone());
        }
        self.from_machine.pass(frame, &mut self.queues.received);
    }

    /// Nothing has come for a while: what was held back to be overtaken goes on.
    pub(super) fn release(&mut self) {
        self.from_machine.release(&mut self.queues.received);
        self.to_machine.release(&mut self.outgoing);
    }

    pub(super) fn poll(&mut self) {
        let now = smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64);
        self.interface
            .poll(now, &mut self.queues, &mut self.sockets);
        for frame in self.queues.transmitted.drain(..) {
            self.to_machine.pass(frame, &mut self.outgoing);
        }
        for frame in self.outgoing.drain(..) {
            if self.sender.send(&frame).is_err() {
                self.ended = true;
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}
