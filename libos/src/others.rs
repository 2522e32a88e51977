//! All that is not TCP: ARP, neighbour discovery and ICMP, answered by smoltcp, and
//! UDP sockets, found by their port, each in a set of its own.

use crate::address::Local;
use crate::addresses::set_interface;
use crate::config::UdpId;
use crate::vif::{Offload, Vif};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress};

struct Socket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    port: u16,
    queued: bool,
}

/// The interface with an Ethernet address, and the UDP sockets.
pub struct Others {
    interface: Box<Interface>,
    nobody: SocketSet<'static>,
    sockets: Vec<Option<Socket>>,
    ports: HashMap<u16, u32, crate::hash::Seed>,
    pub events: VecDeque<UdpId>,
    /// Sockets that may have something to send.
    sending: Vec<u32>,
    deadline: Option<Instant>,
    blocked: bool,
}

fn interface(local: &Local, vif: &mut Vif, seed: u64, now: Instant) -> Interface {
    let address = EthernetAddress(local.hardware);
    let mut settings = iface::Config::new(HardwareAddress::Ethernet(address));
    settings.random_seed = seed;
    let mut line = Line {
        vif,
        frame: None,
        sent: false,
    };
    Interface::new(settings, &mut line, now)
}

impl Others {
    pub fn new(
        local: &Local,
        vif: &mut Vif,
        seed: u64,
        hash: crate::hash::Seed,
        now: Instant,
    ) -> Self {
        let mut others = Self {
            interface: Box::new(interface(local, vif, seed, now)),
            nobody: SocketSet::new(Vec::new()),
            sockets: Vec::new(),
            ports: HashMap::with_hasher(hash),
            events: VecDeque::new(),
            sending: Vec::new(),
            deadline: None,
            blocked: false,
        };
        others.set_addresses(local);
        others
    }

    /// Takes these addresses instead of those it has.
    pub fn set_addresses(&mut self, local: &Local) {
        let hardware = HardwareAddress::Ethernet(EthernetAddress(local.hardware));
        self.interface.set_hardware_addr(hardware);
        set_interface(&mut self.interface, local);
    }

    /// Takes in a frame that is not TCP. `port` is the destination port of a whole
    /// UDP datagram.
    pub fn receive(&mut self, vif: &mut Vif, frame: &[u8], port: Option<u16>, now: Instant) {
        let index = port.and_then(|port| self.ports.get(&port).copied());
        let mut line = Line {
            vif,
            frame: Some(frame),
            sent: false,
        };
        match index.and_then(|index| Some((index, self.sockets.get_mut(index as usize)?.as_mut()?)))
        {
            Some((index, socket)) => {
                self.interface
                    .poll_ingress_single(now, &mut line, &mut socket.set);
                if !socket.queued && socket.set.get::<udp::Socket>(socket.handle).can_recv() {
                    socket.queued = true;
                    self.events.push_back(UdpId(index));
                }
            }
            None => {
                self.interface
                    .poll_ingress_single(now, &mut line, &mut self.nobody);
            }
        }
        // What waits for a neighbour may go on now, or a fragmented answer has more to send.
        if !self.sending.is_empty() {
            self.deadline = Some(now);
        }
    }

    /// Sends what the UDP sockets have queued, as far as it goes.
    pub fn send(&mut self, vif: &mut Vif, now: Instant) {
        let largest = vif.capabilities().maximum_frame;
        self.deadline = None;
        self.blocked = false;
        let mut at = 0;
        while let Some(&index) = self.sending.get(at) {
            let Some(socket) = self
                .sockets
                .get_mut(index as usize)
                .and_then(Option::as_mut)
            else {
                self.sending.swap_remove(at);
                continue;
            };
            let next = loop {
                let next = self.interface.poll_at(now, &socket.set);
                if next.is_none_or(|at| at > now) {
                    break next;
                }
                if !vif.can_transmit(largest, None) {
                    self.blocked = true;
                    break next;
                }
                let mut line = Line {
                    vif,
                    frame: None,
                    sent: false,
                };
                self.interface.poll_egress(now, &mut line, &mut socket.set);
                if !line.sent {
                    break self
                        .interface
                        .poll_at(now, &socket.set)
                        .filter(|&at| at > now);
                }
            };
            if next.is_none() {
                self.sending.swap_remove(at);
                continue;
            }
            // A time in the past means that the Vif is full: it wakes us.
            if let Some(next) = next.filter(|&next| next > now) {
                self.deadline = Some(self.deadline.map_or(next, |deadline| deadline.min(next)));
            }
            at += 1;
        }
    }

    /// Whether something waits until the Vif has room.
    pub fn waits_for_room(&self) -> bool {
        self.blocked
    }

    /// When [`Others::send`] wants to be called again.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Makes a UDP socket on `port` that holds `bytes` of datagrams each way.
    pub fn bind(&mut self, port: u16, bytes: usize) -> Option<UdpId> {
        if port == 0 || bytes == 0 || self.ports.contains_key(&port) {
            return None;
        }
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; (bytes / 256).clamp(4, 256)],
                vec![0; bytes],
            )
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).ok()?;
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        let new = Some(Socket {
            set,
            handle,
            port,
            queued: false,
        });
        let index = match self.sockets.iter().position(Option::is_none) {
            Some(index) => {
                self.sockets[index] = new;
                index
            }
            None => {
                self.sockets.push(new);
                self.sockets.len() - 1
            }
        };
        self.ports.insert(port, index as u32);
        Some(UdpId(index as u32))
    }

    /// Ends a UDP socket. Returns its port.
    pub fn close(&mut self, id: UdpId) -> Option<u16> {
        let socket = self.sockets.get_mut(id.0 as usize)?.take()?;
        self.ports.remove(&socket.port);
        self.events.retain(|&queued| queued != id);
        Some(socket.port)
    }

    /// The next socket with datagrams that came in.
    pub fn next_event(&mut self) -> Option<UdpId> {
        let id = self.events.pop_front()?;
        if let Some(socket) = self.sockets.get_mut(id.0 as usize).and_then(Option::as_mut) {
            socket.queued = false;
        }
        Some(id)
    }

    /// The socket with this name; what it then has to send will be looked at.
    pub fn socket(&mut self, id: UdpId) -> Option<&mut udp::Socket<'static>> {
        let socket = self.sockets.get_mut(id.0 as usize)?.as_mut()?;
        if !self.sending.contains(&id.0) {
            self.sending.push(id.0);
        }
        Some(socket.set.get_mut(socket.handle))
    }
}

/// The Vif as smoltcp's interface sees it.
struct Line<'a> {
    vif: &'a mut Vif,
    frame: Option<&'a [u8]>,
    sent: bool,
}

/// A received frame.
struct Frame<'a>(&'a [u8]);

impl phy::RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame.
struct Room<'b, 'a>(&'b mut Line<'a>);

impl phy::TxToken for Room<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.sent = true;
        self.0.vif.transmit(length, Offload::default(), f)
    }
}

impl<'a> Device for Line<'a> {
    type RxToken<'b>
        = Frame<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = Room<'b, 'a>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Frame<'a>, Room<'_, 'a>)> {
        let frame = self.frame.take()?;
        Some((Frame(frame), Room(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_, 'a>> {
        Some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // All checksums in software, both ways: these are few and short.
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.vif.capabilities().maximum_frame;
        capabilities
    }
}
