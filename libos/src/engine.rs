//! TCP engines: smoltcp sockets, one to a set, that connections borrow while
//! they have something to do.
//!
//! An engine is made once, with its buffers, and used by many connections one
//! after the other. smoltcp picks the initial sequence number of each use
//! itself, so an engine's numbers differ from those on the wire by an offset,
//! added to what it sends and taken from what it is told. That is what lets a
//! connection go without an engine: during the handshake, while it is idle, and
//! in TIME_WAIT.
//!
//! Engines know nothing of Ethernet. A connection's frames go back to the
//! hardware address they come from, so no neighbour has to be looked up for a
//! segment.

use crate::address::{Address, FlowKey, Local};
use crate::addresses::set_interface;
use crate::vif::{Offload, Vif};
use crate::wire::{
    ACK, CONTROL_ROOM, Control, ETHERNET_HEADER, FIN, IPV4_HEADER, IPV6_HEADER, PeerOptions, RST,
    SYN, TCP_HEADER, before, half, tcp_start, word,
};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{
    self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta,
};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

/// The largest packet that every IPv6 link takes (RFC 8200, 5).
const NARROW_PACKET: usize = 1280;
/// The payload of a segment that every IPv6 link takes.
pub const NARROW_SEGMENT: u16 = (NARROW_PACKET - IPV6_HEADER - TCP_HEADER) as u16;

/// Sizes of an engine's buffers, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Receive buffer, at most 65,535: an engine's window is never scaled.
    pub receive: usize,
    /// Send buffer.
    pub send: usize,
}

impl BufferSizes {
    fn total(&self) -> usize {
        self.receive + self.send
    }

    /// Whether a connection can live with them.
    pub(crate) fn are_usable(&self) -> bool {
        (2048..=65_535).contains(&self.receive) && (2048..=1 << 24).contains(&self.send)
    }
}

/// One smoltcp socket in a set of its own.
pub struct Engine {
    set: SocketSet<'static>,
    handle: SocketHandle,
    sizes: BufferSizes,
    /// Its segments are to be no larger than every IPv6 link takes.
    narrow: bool,
    /// The connection that uses it.
    pub user: Option<usize>,
}

impl Engine {
    fn new(sizes: BufferSizes) -> Self {
        let socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; sizes.receive]),
            tcp::SocketBuffer::new(vec![0; sizes.send]),
        );
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self {
            set,
            handle,
            sizes,
            narrow: false,
            user: None,
        }
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The socket, to look at.
    pub fn socket_ref(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }
}

/// What an engine has sent, in numbers of the wire.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Sequence number after the segment.
    pub end: u32,
    /// What it acknowledged.
    pub acknowledgement: u32,
    /// Whether it carried data or a FIN.
    pub occupies: bool,
}

/// A connection's state without an engine: enough to go on with a fresh one.
#[derive(Clone, Copy, Debug)]
pub struct Resumption {
    /// Its name.
    pub key: FlowKey,
    /// Our next sequence number; all before it is acknowledged.
    pub send_next: u32,
    /// The peer's next sequence number; all before it was consumed.
    pub receive_next: u32,
    /// The peer's window field.
    pub window: u16,
    /// What the peer offered in its SYN.
    pub peer: PeerOptions,
}

/// The engines and the smoltcp interfaces that they share.
pub struct Engines {
    /// One for most, and one for narrow ones: smoltcp knows no largest segment of a
    /// socket's own. Both in a box: they are large, and a stack is moved a few times
    /// before it has its place.
    interfaces: [Box<Interface>; 2],
    pool: Vec<Engine>,
    free: Vec<usize>,
    memory: usize,
    memory_limit: usize,
    hand: usize,
}

/// A TCP payload of a whole number of full segments, so that cutting it leaves
/// no short one, as large as an IPv4 packet can be.
fn largest_payload(maximum_frame: usize, largest: usize) -> usize {
    let headers = IPV4_HEADER + TCP_HEADER;
    let segment = maximum_frame - ETHERNET_HEADER - headers;
    let room = largest.min(65_535 + ETHERNET_HEADER) - ETHERNET_HEADER - headers;
    room / segment * segment
}

fn device_capabilities(vif: &Vif, narrow: bool) -> DeviceCapabilities {
    let given = vif.capabilities();
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = given.maximum_frame - ETHERNET_HEADER;
    if narrow {
        capabilities.max_transmission_unit = NARROW_PACKET.min(given.maximum_frame);
    }
    // Received checksums are verified in front, frame by frame, if the device
    // has not done it. Those of transmitted TCP segments are left to the Vif.
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities.checksum.ipv4 = Checksum::Tx;
    // Over IPv6 smoltcp drops what is larger than a packet, and it is told of none.
    capabilities.segmentation.tcpv4 = given
        .segmentation
        .map(|largest| {
            let headers = IPV4_HEADER + TCP_HEADER;
            headers + largest_payload(given.maximum_frame, largest)
        })
        .and_then(NonZeroUsize::new);
    capabilities
}

impl Engines {
    /// No engines yet; together they may use `memory_limit` bytes of buffers.
    pub fn new(vif: &mut Vif, local: &Local, seed: u64, memory_limit: usize, now: Instant) -> Self {
        let interfaces = [false, true].map(|narrow| {
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = seed;
            let mut device = Wire {
                narrow,
                ..Wire::new(vif, [0; ETHERNET_HEADER], 0, None)
            };
            Box::new(Interface::new(config, &mut device, now))
        });
        let mut engines = Self {
            interfaces,
            pool: Vec::new(),
            free: Vec::new(),
            memory: 0,
            memory_limit,
            hand: 0,
        };
        engines.set_addresses(local);
        engines
    }

    /// Takes these addresses instead of those they have.
    pub fn set_addresses(&mut self, local: &Local) {
        for interface in self.interfaces.iter_mut() {
            set_interface(interface, local);
        }
    }

    /// Makes an engine's segments small enough for every IPv6 link.
    pub fn narrow(&mut self, index: usize) {
        self.pool[index].narrow = true;
    }

    /// The engine at `index`.
    pub fn get(&mut self, index: usize) -> &mut Engine {
        &mut self.pool[index]
    }

    /// The engine at `index`, to look at.
    pub fn get_ref(&self, index: usize) -> &Engine {
        &self.pool[index]
    }

    /// An engine of these sizes for connection `user`, if one is free or there is
    /// memory for another.
    pub fn take(&mut self, sizes: BufferSizes, user: usize) -> Option<usize> {
        if let Some(at) = self
            .free
            .iter()
            .rposition(|&index| self.pool[index].sizes == sizes)
        {
            let index = self.free.swap_remove(at);
            self.pool[index].user = Some(user);
            return Some(index);
        }
        if self.memory + sizes.total() > self.memory_limit {
            return None;
        }
        self.memory += sizes.total();
        let mut engine = Engine::new(sizes);
        engine.user = Some(user);
        self.pool.push(engine);
        Some(self.pool.len() - 1)
    }

    /// Gives an engine back.
    pub fn release(&mut self, index: usize) {
        let engine = &mut self.pool[index];
        engine.user = None;
        engine.socket().abort();
        self.free.push(index);
    }

    /// Goes round all engines in use, once, from where it stopped last time,
    /// until `wanted` says that one can be taken from its connection. Returns the
    /// connection.
    pub fn find(
        &mut self,
        sizes: BufferSizes,
        mut wanted: impl FnMut(u32, &tcp::Socket<'static>) -> bool,
    ) -> Option<u32> {
        for _ in 0..self.pool.len() {
            self.hand = (self.hand + 1) % self.pool.len();
            let engine = &self.pool[self.hand];
            if let Some(user) = engine.user
                && engine.sizes == sizes
                && wanted(user as u32, engine.socket_ref())
            {
                return Some(user as u32);
            }
        }
        None
    }

    /// Brings an engine to the established state of a connection. Returns the
    /// offset from its sequence numbers to those of the wire.
    pub fn establish(&mut self, index: usize, from: &Resumption, now: Instant) -> u32 {
        let engine = &mut self.pool[index];
        engine.narrow = !from.key.is_ipv4() && from.peer.maximum_segment <= NARROW_SEGMENT;
        let interface = &mut self.interfaces[usize::from(engine.narrow)];
        let handle = engine.handle;
        let socket = engine.set.get_mut::<tcp::Socket>(handle);
        socket.abort();
        // A closed socket listens again, whatever it was before; the port is not 0.
        let _ = socket.listen(from.key.local_port);
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        socket.set_timeout(None);
        socket.set_keep_alive(None);
        socket.set_nagle_enabled(false);

        let mut control = Control {
            key: from.key,
            sequence: from.receive_next.wrapping_sub(1),
            acknowledgement: 0,
            flags: SYN,
            window: from.window,
            options: Some(from.peer),
        };
        let mut packet = [0; CONTROL_ROOM];
        let length = control.length();
        control.emit(&mut packet[..length], true);
        let mut device = Echo {
            packet: Some((packet, length)),
            answer: None,
        };
        interface.poll_ingress_single(now, &mut device, &mut engine.set);
        interface.poll_egress(now, &mut device, &mut engine.set);
        let initial = device.answer.unwrap_or(0);

        control.sequence = from.receive_next;
        control.acknowledgement = initial.wrapping_add(1);
        control.flags = ACK;
        control.options = None;
        let length = control.length();
        control.emit(&mut packet[..length], true);
        device.packet = Some((packet, length));
        interface.poll_ingress_single(now, &mut device, &mut engine.set);
        from.send_next.wrapping_sub(initial.wrapping_add(1))
    }

    /// Hands the IP packet of a received frame to an engine. What it answers
    /// at once goes out.
    pub fn receive(
        &mut self,
        index: usize,
        vif: &mut Vif,
        link: [u8; ETHERNET_HEADER],
        offset: u32,
        packet: &[u8],
        now: Instant,
    ) -> Option<Sent> {
        let mut device = Wire::new(vif, link, offset, Some(packet));
        let engine = &mut self.pool[index];
        self.interfaces[usize::from(engine.narrow)].poll_ingress_single(
            now,
            &mut device,
            &mut engine.set,
        );
        device.sent
    }

    /// Lets an engine send one segment.
    pub fn send(
        &mut self,
        index: usize,
        vif: &mut Vif,
        link: [u8; ETHERNET_HEADER],
        offset: u32,
        now: Instant,
    ) -> Option<Sent> {
        let mut device = Wire::new(vif, link, offset, None);
        let engine = &mut self.pool[index];
        self.interfaces[usize::from(engine.narrow)].poll_egress(now, &mut device, &mut engine.set);
        device.sent
    }

    /// When an engine wants to send next: a time that has passed means now.
    pub fn poll_at(&mut self, index: usize, now: Instant) -> Option<Instant> {
        // Both would say the same.
        self.interfaces[0].poll_at(now, &self.pool[index].set)
    }

    /// Bytes of buffers made so far.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

/// The device that engines send through: adds the Ethernet header and the
/// offset of the sequence numbers.
struct Wire<'a> {
    vif: &'a mut Vif,
    link: [u8; ETHERNET_HEADER],
    offset: u32,
    packet: Option<&'a [u8]>,
    sent: Option<Sent>,
    narrow: bool,
}

impl<'a> Wire<'a> {
    fn new(
        vif: &'a mut Vif,
        link: [u8; ETHERNET_HEADER],
        offset: u32,
        packet: Option<&'a [u8]>,
    ) -> Self {
        Self {
            vif,
            link,
            offset,
            packet,
            sent: None,
            narrow: false,
        }
    }
}

/// A received packet.
struct Packet<'a>(&'a [u8]);

impl phy::RxToken for Packet<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet to send.
struct Outgoing<'b, 'a> {
    wire: &'b mut Wire<'a>,
    meta: PacketMeta,
}

impl phy::TxToken for Outgoing<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Wire {
            vif,
            link,
            offset,
            sent,
            ..
        } = self.wire;
        let offload = Offload {
            checksum: true,
            segment_size: self.meta.segmentation_offload_size,
        };
        let mut last = None;
        let link = &*link;
        let result = vif.transmit_to(&link[..6], ETHERNET_HEADER + length, offload, |frame| {
            frame[..ETHERNET_HEADER].copy_from_slice(link);
            let result = f(&mut frame[ETHERNET_HEADER..]);
            // smoltcp writes no IP options or extension headers.
            let start = tcp_start(frame);
            let tcp = &mut frame[start..];
            let sequence = word(tcp, 4).wrapping_add(*offset);
            tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
            let flags = tcp[13];
            if flags & RST == 0 {
                let payload = (tcp.len() - usize::from(tcp[12] >> 4) * 4) as u32;
                let end = sequence
                    .wrapping_add(payload)
                    .wrapping_add(u32::from(flags & FIN != 0));
                let latest = match sent {
                    Some(earlier) if before(end, earlier.end) => earlier.end,
                    _ => end,
                };
                *sent = Some(Sent {
                    end: latest,
                    acknowledgement: word(tcp, 8),
                    occupies: end != sequence,
                });
                if offload.segment_size.is_some() && flags & FIN != 0 {
                    tcp[13] &= !FIN;
                    last = Some(final_segment(frame, end));
                }
            }
            result
        });
        if let Some(last) = last {
            let length = ETHERNET_HEADER + last.length();
            vif.transmit_to(&link[..6], length, Offload::default(), |frame| {
                frame[..ETHERNET_HEADER].copy_from_slice(link);
                last.emit(&mut frame[ETHERNET_HEADER..], false);
            });
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

/// The FIN of a frame that the device cuts into segments, in a segment of its own.
/// Only frames over IPv4 are cut.
///
/// The device should put it on the last segment. QEMU's 82576 leaves it away, and
/// the connection would wait for a retransmission to close.
fn final_segment(frame: &[u8], end: u32) -> Control {
    let tcp = ETHERNET_HEADER + IPV4_HEADER;
    Control {
        key: FlowKey {
            remote: Address::from_ipv4_bits(word(frame, 30)),
            local: Address::from_ipv4_bits(word(frame, 26)),
            remote_port: half(frame, tcp + 2),
            local_port: half(frame, tcp),
        },
        sequence: end.wrapping_sub(1),
        acknowledgement: word(frame, tcp + 8),
        flags: FIN | ACK,
        window: half(frame, tcp + 14),
        options: None,
    }
}

impl<'a> Device for Wire<'a> {
    type RxToken<'b>
        = Packet<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, 'a>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Packet<'a>, Outgoing<'_, 'a>)> {
        let packet = self.packet.take()?;
        Some((
            Packet(packet),
            Outgoing {
                wire: self,
                meta: PacketMeta::default(),
            },
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_, 'a>> {
        Some(Outgoing {
            wire: self,
            meta: PacketMeta::default(),
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        device_capabilities(self.vif, self.narrow)
    }
}

/// The device of a handshake that an engine has with nobody: takes a packet in
/// and notes the sequence number of what comes out.
struct Echo {
    packet: Option<([u8; CONTROL_ROOM], usize)>,
    answer: Option<u32>,
}

/// A packet for an engine.
struct EchoIn([u8; CONTROL_ROOM], usize);

impl phy::RxToken for EchoIn {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0[..self.1])
    }
}

/// Where an engine's answer goes.
struct EchoOut<'a>(&'a mut Option<u32>);

impl phy::TxToken for EchoOut<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = [0; 2 * CONTROL_ROOM];
        // A SYN with its options; an engine in a handshake sends nothing longer.
        let result = f(&mut packet[..length]);
        let header = match packet[0] >> 4 {
            4 => IPV4_HEADER,
            _ => IPV6_HEADER,
        };
        *self.0 = Some(word(&packet, header + 4));
        result
    }
}

impl Device for Echo {
    type RxToken<'b> = EchoIn;
    type TxToken<'b> = EchoOut<'b>;

    fn receive(&mut self, _: Instant) -> Option<(EchoIn, EchoOut<'_>)> {
        let (packet, length) = self.packet.take()?;
        Some((EchoIn(packet, length), EchoOut(&mut self.answer)))
    }

    fn transmit(&mut self, _: Instant) -> Option<EchoOut<'_>> {
        Some(EchoOut(&mut self.answer))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}
