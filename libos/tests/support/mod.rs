//! A stack, a plain smoltcp client, and a wire between them that may drop,
//! duplicate and reorder; all in virtual time.
#![allow(dead_code)]

pub mod forged;
pub mod machine;
pub mod order;
pub mod ports;
pub mod switches;

use order::Order;
use segue_libos::*;
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15);
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 2);
pub const SERVER_MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const ADDRESSES: Addresses = Addresses {
    ipv4: Some(segue_libos::Network {
        address: SERVER,
        prefix_length: 24,
        gateway: Some(CLIENT),
    }),
    ipv6: Some(segue_libos::Network {
        address: SERVER6,
        prefix_length: 64,
        gateway: Some(CLIENT6),
    }),
};
/// Serves: a request of 8 bytes (a length, little endian) is answered with that
/// many bytes of a pattern; with the top bit set, the server closes after it.
pub const SERVE: u16 = 80;
/// Sinks: all is read; after the peer's FIN, a checksum of it comes back.
pub const SINK: u16 = 81;
pub const CLOSE: u64 = 1 << 63;

/// Numbers that look random and are the same each time.
#[derive(Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn chance(&mut self, per_thousand: u64) -> bool {
        self.next() % 1000 < per_thousand
    }
}

pub fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8
}

pub fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub drop: u64,
    pub duplicate: u64,
    pub reorder: u64,
}

pub struct Network {
    pub now: i64,
    order: u64,
    pub delay: i64,
    /// Frames of one direction come so far apart at least, in microseconds.
    pub gap: i64,
    /// When the last one comes, to the client and to the server.
    last: [i64; 2],
    pub faults: Faults,
    numbers: Numbers,
    to_server: BTreeMap<(i64, u64), Vec<u8>>,
    to_client: BTreeMap<(i64, u64), Vec<u8>>,
    pub frames: u64,
    /// Frames that the server's side has no room for beyond this.
    pub server_room: usize,
    pub largest_to_nic: usize,
    pub sniff: Option<Vec<Vec<u8>>>,
    /// Looks whether segments with data come in order, both ways.
    pub streams: Option<Order>,
    /// The way to the client takes packets up to this size over IPv6, and says so.
    pub narrow: Option<usize>,
}

impl Network {
    fn put(&mut self, server: bool, frame: Vec<u8>) {
        self.frames += 1;
        if let Some(order) = &mut self.streams {
            order.look(server, &frame);
        }
        if let Some(sniff) = self.sniff.as_mut().filter(|_| !server) {
            sniff.push(frame.clone());
        }
        if let Some(mtu) = self.narrow
            && !server
            && frame.len() > 14 + mtu
            && frame[12..14] == [0x86, 0xdd]
        {
            let report = too_big(&frame, mtu);
            return self.inject(report);
        }
        let faults = self.faults;
        if self.numbers.chance(faults.drop) {
            return;
        }
        let last = &mut self.last[usize::from(server)];
        let mut at = (self.now + self.delay).max(*last + self.gap);
        *last = at;
        if self.numbers.chance(faults.reorder) {
            at += (self.numbers.next() % 2000) as i64;
        }
        let copies = if self.numbers.chance(faults.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            self.order += 1;
            let key = (at, self.order);
            if server {
                self.to_server.insert(key, frame.clone())
            } else {
                self.to_client.insert(key, frame.clone())
            };
            at += 3;
        }
    }

    fn take(&mut self, server: bool) -> Option<Vec<u8>> {
        let queue = if server {
            &mut self.to_server
        } else {
            &mut self.to_client
        };
        let (&key, _) = queue.first_key_value()?;
        if key.0 > self.now {
            return None;
        }
        queue.remove(&key)
    }

    /// Loses all that is on its way to the stack. Returns how many frames that are.
    pub fn lose(&mut self) -> usize {
        core::mem::take(&mut self.to_server).len()
    }

    /// As [`Self::lose`], and what is on its way to the client, too.
    pub fn lose_all(&mut self) -> usize {
        self.lose() + core::mem::take(&mut self.to_client).len()
    }

    pub fn inject(&mut self, frame: Vec<u8>) {
        self.order += 1;
        self.to_server.insert((self.now, self.order), frame);
    }

    fn next_arrival(&self) -> Option<i64> {
        let first = |queue: &BTreeMap<(i64, u64), Vec<u8>>| queue.keys().next().map(|&(at, _)| at);
        [first(&self.to_server), first(&self.to_client)]
            .into_iter()
            .flatten()
            .min()
    }
}

pub fn sum16(start: u64, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Where the TCP header of a frame starts that has no IP options.
pub fn tcp_at(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x86, 0xdd] if frame.len() >= 74 => 54,
        _ => 34,
    }
}

/// Whether these tests are to run over IPv6: in `ipv6.rs`, which has them as its
/// modules.
pub fn ipv6() -> bool {
    module_path!().starts_with("ipv6")
}

/// The headers of a frame for a TCP header and more, up to the ports.
pub fn headers(ipv6: bool, source: IpAddr, tcp_length: usize) -> Vec<u8> {
    let mut frame = [&SERVER_MAC[..], &CLIENT_MAC].concat();
    match source {
        IpAddr::V4(source) if !ipv6 => {
            frame.extend_from_slice(&[8, 0, 0x45, 0]);
            frame.extend_from_slice(&(20 + tcp_length as u16).to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&SERVER.octets());
        }
        IpAddr::V6(source) if ipv6 => {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend_from_slice(&(tcp_length as u16).to_be_bytes());
            frame.extend_from_slice(&[6, 64]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&SERVER6.octets());
        }
        _ => panic!("{source} is of the other family"),
    }
    frame
}

/// The client's address, or another one of the same network.
pub fn neighbour(ipv6: bool, last: u8) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, last.into()).into()
    } else {
        Ipv4Addr::new(10, 0, 2, last).into()
    }
}

/// Writes the checksums of a TCP frame without IP options.
pub fn fill_checksums(frame: &mut [u8]) {
    let tcp = tcp_at(frame);
    if tcp == 34 {
        frame[24..26].fill(0);
        let header = !sum16(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
    }
    let addresses = if tcp == 34 { 26 } else { 22 };
    let length = (frame.len() - tcp) as u64;
    let start = u64::from(sum16(0, &frame[addresses..tcp])) + 6 + length;
    frame[tcp + 16..tcp + 18].fill(0);
    let checksum = !sum16(start, &frame[tcp..]);
    frame[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
}

/// What a router between the client and the server says about a packet (RFC 4443, 3.2).
fn too_big(frame: &[u8], mtu: usize) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0];
    message.extend_from_slice(&(mtu as u32).to_be_bytes());
    message.extend_from_slice(&frame[14..14 + 1232]);
    let mut report = headers(true, CLIENT6.into(), message.len());
    report[20] = 58;
    let start = u64::from(sum16(0, &report[22..54])) + 58 + message.len() as u64;
    let sum = !sum16(start, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    report.extend_from_slice(&message);
    report
}

/// A NIC with its offloads, at the server's end of the wire.
pub struct Nic {
    pub network: Rc<RefCell<Network>>,
    pub capabilities: Capabilities,
    pub verified: bool,
}

impl Backend for Nic {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let frame = self.network.borrow_mut().take(true)?;
        buffer[..frame.len()].copy_from_slice(&frame);
        Some(Received {
            length: frame.len(),
            verified: self.verified,
        })
    }
    fn can_transmit(&mut self, _: usize) -> bool {
        let network = self.network.borrow();
        network.to_client.len() < network.server_room
    }
    fn transmit(
        &mut self,
        length: usize,
        offload: Offload,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> bool {
        if !self.can_transmit(length) {
            return false;
        }
        let mut frame = vec![0xaa; length];
        assert!(fill(&mut frame), "a frame is not wanted after all");
        let mut network = self.network.borrow_mut();
        network.largest_to_nic = network.largest_to_nic.max(length);
        let Some(size) = offload.segment_size else {
            if offload.checksum {
                assert!(self.capabilities.checksum);
                fill_checksums(&mut frame);
            }
            assert!(length <= self.capabilities.maximum_frame);
            network.put(false, frame);
            return true;
        };
        assert!(
            offload.checksum && length <= self.capabilities.segmentation.expect("no segmentation")
        );
        for segment in segments(&frame, size.get().into()) {
            network.put(false, segment);
        }
        true
    }
    fn commit(&mut self) {}
}

/// Cuts a frame as a card does.
pub fn segments(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    assert_eq!(frame[14] >> 4, 4, "nothing over IPv6 is cut");
    let headers = 34 + usize::from(frame[46] >> 4) * 4;
    let (headers, payload) = frame.split_at(headers);
    let cut = |(index, chunk): (usize, &[u8])| {
        let mut segment = headers.to_vec();
        segment.extend_from_slice(chunk);
        let total = (segment.len() - 14) as u16;
        segment[16..18].copy_from_slice(&total.to_be_bytes());
        let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap())
            .wrapping_add((index * size) as u32);
        segment[38..42].copy_from_slice(&sequence.to_be_bytes());
        segment[47] &= !9; // as QEMU's 82576 does: no FIN, no PSH

        fill_checksums(&mut segment);
        segment
    };
    payload.chunks(size).enumerate().map(cut).collect()
}

struct ClientEnd(Rc<RefCell<Network>>);
struct ClientRx(Vec<u8>);
struct ClientTx(Rc<RefCell<Network>>);

impl phy::RxToken for ClientRx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}
impl phy::TxToken for ClientTx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.borrow_mut().put(true, frame);
        result
    }
}
impl Device for ClientEnd {
    type RxToken<'a> = ClientRx;
    type TxToken<'a> = ClientTx;
    fn receive(&mut self, _: Instant) -> Option<(ClientRx, ClientTx)> {
        let frame = self.0.borrow_mut().take(false)?;
        Some((ClientRx(frame), ClientTx(self.0.clone())))
    }
    fn transmit(&mut self, _: Instant) -> Option<ClientTx> {
        Some(ClientTx(self.0.clone()))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

#[derive(Default)]
struct Job {
    request: Vec<u8>,
    at: u64,
    left: u64,
    close: bool,
    sink: Option<u64>,
    answered: bool,
}

/// A connection that the application has opened to somebody who echoes.
pub struct Dialog {
    pub length: u64,
    pub sent: u64,
    pub received: u64,
    pub connected: bool,
    pub closed: Option<CloseReason>,
}

/// The application on the stack.
#[derive(Default)]
pub struct Application {
    jobs: HashMap<ConnectionId, Job>,
    pub serve: Option<ListenerId>,
    pub sink: Option<ListenerId>,
    pub closed: Vec<CloseReason>,
    pub dialogs: HashMap<ConnectionId, Dialog>,
    pub events: u64,
}

impl Application {
    pub fn event(&mut self, stack: &mut Stack, event: Event) {
        self.events += 1;
        match event {
            Event::Accepted {
                connection,
                listener,
                ..
            } => {
                let sink = (Some(listener) == self.sink).then_some(0xcbf2_9ce4_8422_2325);
                assert!(
                    self.jobs
                        .insert(
                            connection,
                            Job {
                                sink,
                                ..Job::default()
                            }
                        )
                        .is_none()
                );
            }
            Event::Connected { connection } => {
                let dialog = self.dialogs.get_mut(&connection).expect("never asked for");
                assert!(!std::mem::replace(&mut dialog.connected, true));
                self.talk(stack, connection);
            }
            Event::Ready { connection, ready } => {
                assert!(ready != Ready::default());
                if self.dialogs.contains_key(&connection) {
                    return self.talk(stack, connection);
                }
                self.work(stack, connection);
            }
            Event::Closed { connection, reason } => {
                if let Some(dialog) = self.dialogs.get_mut(&connection) {
                    assert_eq!(dialog.closed.replace(reason), None, "closed twice");
                    assert_eq!(stack.send(connection, b"ghost"), 0);
                    return;
                }
                assert!(
                    self.jobs.remove(&connection).is_some(),
                    "closed and never accepted"
                );
                self.closed.push(reason);
                assert_eq!(stack.send(connection, b"ghost"), 0);
            }
            Event::Datagram { .. } => {}
        }
    }

    pub fn open(&self) -> Vec<ConnectionId> {
        self.jobs.keys().copied().collect()
    }

    /// Sends the pattern, looks whether it comes back, and closes.
    fn talk(&mut self, stack: &mut Stack, id: ConnectionId) {
        let dialog = self.dialogs.get_mut(&id).unwrap();
        assert!(dialog.connected, "ready before it was open");
        let mut buffer = [0; 4096];
        loop {
            let count = stack.receive(id, &mut buffer);
            if count == 0 {
                break;
            }
            for &byte in &buffer[..count] {
                assert_eq!(byte, pattern(dialog.received));
                dialog.received += 1;
            }
        }
        while dialog.sent < dialog.length {
            let count = (dialog.length - dialog.sent).min(4096);
            for (byte, at) in buffer.iter_mut().zip(dialog.sent..) {
                *byte = pattern(at);
            }
            let taken = stack.send(id, &buffer[..count as usize]) as u64;
            dialog.sent += taken;
            if taken < count {
                break;
            }
        }
        if dialog.received == dialog.length || stack.peer_closed(id) {
            stack.close(id);
        }
    }

    fn work(&mut self, stack: &mut Stack, id: ConnectionId) {
        let job = self
            .jobs
            .get_mut(&id)
            .expect("an event of an unknown connection");
        if let Some(sum) = &mut job.sink {
            let mut buffer = [0; 4096];
            loop {
                let count = stack.receive(id, &mut buffer);
                if count == 0 {
                    break;
                }
                *sum = checksum(*sum, &buffer[..count]);
            }
            if stack.peer_closed(id) && !job.answered {
                job.answered = true;
                assert_eq!(stack.send(id, &sum.to_le_bytes()), 8);
                stack.close(id);
            }
            return;
        }
        loop {
            while job.left > 0 {
                let mut at = job.at;
                let left = job.left;
                let count = stack.send_with(id, |space| {
                    let count = (space.len() as u64).min(left) as usize;
                    for byte in &mut space[..count] {
                        *byte = pattern(at);
                        at += 1;
                    }
                    count
                }) as u64;
                if count == 0 {
                    return;
                }
                job.at += count;
                job.left -= count;
            }
            if job.close && job.at > 0 {
                stack.close(id);
                return;
            }
            let mut buffer = [0; 8];
            let want = 8 - job.request.len();
            let count = stack.receive(id, &mut buffer[..want]);
            if count == 0 {
                break;
            }
            job.request.extend_from_slice(&buffer[..count]);
            if job.request.len() == 8 {
                let number = u64::from_le_bytes(job.request[..].try_into().unwrap());
                job.request.clear();
                job.close = number & CLOSE != 0;
                job.left = number & !CLOSE;
                job.at = 0;
            }
        }
        if stack.peer_closed(id) && stack.receive_queue(id) == 0 {
            stack.close(id);
        }
    }
}

pub struct World {
    pub network: Rc<RefCell<Network>>,
    /// What else moves frames, if the stack has more than a cable.
    pub machine: Option<Rc<RefCell<machine::Machine>>>,
    pub stack: Stack,
    pub application: Application,
    client: Interface,
    device: ClientEnd,
    pub sockets: SocketSet<'static>,
    /// The server's address that the client connects to.
    pub server: IpAddress,
}

pub struct Settings {
    pub faults: Faults,
    pub offloads: bool,
    pub verified: bool,
    pub buffers: BufferSizes,
    pub buffer_memory: usize,
    pub maximum_connections: usize,
    pub listen: ListenOptions,
    /// The client connects over IPv6.
    pub ipv6: bool,
    pub seed: u64,
    pub authority: Box<dyn PortAuthority>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            offloads: true,
            verified: false,
            buffers: BufferSizes {
                receive: 8192,
                send: 65_536,
            },
            buffer_memory: 16 << 20,
            maximum_connections: 4096,
            listen: ListenOptions::default(),
            ipv6: ipv6(),
            seed: 0x1234_5678_9abc_def1,
            authority: Box::new(EveryPort::default()),
        }
    }
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let capabilities = Capabilities {
            maximum_frame: 1514,
            segmentation: settings.offloads.then_some(65_535 + 14),
            checksum: settings.offloads,
        };
        let verified = settings.verified;
        Self::over(settings, |network| {
            Vif::new(Box::new(Nic {
                network: network.clone(),
                capabilities,
                verified,
            }))
        })
    }

    /// A world in which the stack has this Vif.
    pub fn over(settings: Settings, vif: impl FnOnce(&Rc<RefCell<Network>>) -> Vif) -> Self {
        let network = Rc::new(RefCell::new(Network {
            now: 1_000_000,
            order: 0,
            delay: 50,
            gap: 0,
            last: [0; 2],
            faults: settings.faults,
            numbers: Numbers(settings.seed),
            to_server: BTreeMap::new(),
            to_client: BTreeMap::new(),
            frames: 0,
            server_room: usize::MAX,
            largest_to_nic: 0,
            sniff: None,
            streams: None,
            narrow: None,
        }));
        let now = Instant::from_micros(1_000_000);
        let server = if settings.ipv6 {
            IpAddress::Ipv6(SERVER6)
        } else {
            IpAddress::Ipv4(SERVER)
        };
        let config = Config {
            hardware_address: SERVER_MAC,
            addresses: ADDRESSES,
            seed: [settings.seed, !settings.seed],
            maximum_connections: settings.maximum_connections,
            buffer_memory: settings.buffer_memory,
            maximum_time_wait: 64,
        };
        let mut stack = Stack::new(config, vif(&network), settings.authority, now);
        let options = ListenOptions {
            buffers: settings.buffers,
            ..settings.listen
        };
        let serve = stack.listen(SERVE, options).unwrap();
        let sink = stack.listen(SINK, options).unwrap();
        let mut device = ClientEnd(network.clone());
        let mut settings =
            iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(CLIENT_MAC)));
        settings.random_seed = 7;
        let mut client = Interface::new(settings, &mut device, now);
        client.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(IpAddress::Ipv4(CLIENT), 24))
                .unwrap();
            addresses
                .push(IpCidr::new(IpAddress::Ipv6(CLIENT6), 64))
                .unwrap();
        });
        let application = Application {
            serve: Some(serve),
            sink: Some(sink),
            ..Application::default()
        };
        Self {
            network,
            machine: None,
            stack,
            application,
            client,
            device,
            sockets: SocketSet::new(vec![]),
            server,
        }
    }

    pub fn now(&self) -> Instant {
        Instant::from_micros(self.network.borrow().now)
    }

    /// The stack opens a connection to `remote`, to have `length` bytes echoed.
    pub fn open(
        &mut self,
        remote: (Ipv4Addr, u16),
        length: u64,
        options: ConnectOptions,
    ) -> Result<ConnectionId, ConnectError> {
        let id = self.stack.connect(remote.into(), options)?;
        let dialog = Dialog {
            length,
            sent: 0,
            received: 0,
            connected: false,
            closed: None,
        };
        assert!(self.application.dialogs.insert(id, dialog).is_none());
        Ok(id)
    }

    /// A socket of the client's that listens on `port`.
    pub fn accept(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1024]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends back what a socket of the client's has received, and closes after the
    /// other side.
    pub fn echo(&mut self, handle: SocketHandle) {
        let socket = self.client(handle);
        let mut buffer = [0; 4096];
        while socket.can_recv() && socket.can_send() {
            let room = (socket.send_capacity() - socket.send_queue()).min(buffer.len());
            let count = socket.recv_slice(&mut buffer[..room]).unwrap();
            assert_eq!(socket.send_slice(&buffer[..count]).unwrap(), count);
        }
        if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
            socket.close();
        }
    }

    pub fn connect(&mut self, port: u16, from: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
        let handle = self.sockets.add(tcp::Socket::new(buffer(), buffer()));
        self.reconnect(handle, port, from);
        handle
    }

    pub fn reconnect(&mut self, handle: SocketHandle, port: u16, from: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        socket
            .connect(self.client.context(), (self.server, port), from)
            .unwrap();
    }

    pub fn client(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One round of the server, as an application's main loop runs it.
    pub fn serve(&mut self) -> usize {
        self.pump();
        let now = self.now();
        let frames = self.stack.poll(now);
        while let Some(event) = self.stack.next_event() {
            self.application.event(&mut self.stack, event);
        }
        self.stack.flush(now);
        self.pump();
        frames
    }

    fn pump(&mut self) {
        if let Some(machine) = &self.machine {
            machine.borrow_mut().pump();
        }
    }

    /// Lets the client do what it has to do, and time pass.
    pub fn step_client(&mut self) {
        let now = self.now();
        self.client.poll(now, &mut self.device, &mut self.sockets);
        let mut network = self.network.borrow_mut();
        network.now += 100;
    }

    /// Lets both sides do all that is to be done now.
    fn settle(&mut self) {
        loop {
            let before = self.network.borrow().frames;
            let frames = self.serve();
            let now = self.now();
            self.client.poll(now, &mut self.device, &mut self.sockets);
            if frames == 0 && before == self.network.borrow().frames && !self.stack.has_events() {
                break;
            }
        }
    }

    /// Goes on to the next time at which something happens, at most to `end`.
    fn advance(&mut self, end: i64) {
        let now = self.now();
        let client = self
            .client
            .poll_at(now, &self.sockets)
            .map(|at| at.total_micros());
        let server = self.stack.next_deadline().map(|at| at.total_micros());
        let arrival = self.network.borrow().next_arrival();
        let busy = self
            .machine
            .as_ref()
            .is_some_and(|machine| machine.borrow().is_busy());
        let soon = busy.then(|| now.total_micros() + 50);
        let next = [client, server, arrival, soon].into_iter().flatten().min();
        let mut network = self.network.borrow_mut();
        network.now = next.map_or(end, |next| next.max(network.now + 1).min(end));
    }

    /// Lets time pass until a condition holds, at most for so long. A condition
    /// that changes something gets its consequences before time goes on.
    pub fn run(&mut self, seconds: i64, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.network.borrow().now + seconds * 1_000_000;
        loop {
            self.settle();
            if until(self) {
                return true;
            }
            self.settle();
            if self.network.borrow().now >= end {
                return false;
            }
            self.advance(end);
        }
    }
}

/// Asks for so many bytes (see [`SERVE`]) and looks at each.
pub fn request(world: &mut World, handle: SocketHandle, number: u64) {
    world
        .client(handle)
        .send_slice(&number.to_le_bytes())
        .unwrap();
    let length = number & !CLOSE;
    let mut at = 0;
    assert!(world.run(30, |world| {
        let socket = world.client(handle);
        while socket.can_recv() {
            at += socket
                .recv(|bytes| {
                    assert!(
                        bytes
                            .iter()
                            .zip(at..)
                            .all(|(&byte, at)| byte == pattern(at))
                    );
                    (bytes.len(), bytes.len() as u64)
                })
                .unwrap();
        }
        at == length
    }));
}
