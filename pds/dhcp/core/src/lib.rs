//! A DHCP client (RFC 2131) that believes only what makes sense.
//!
//! The protocol's states and timers are smoltcp's. Before smoltcp sees an answer, [`guard`] has
//! looked at it: whatever no honest server would say to this client is refused, with a sentence.
//! Frames in, frames out; times are microseconds since any moment.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod device;
pub mod guard;

pub use account::Account;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use device::Queue;
use guard::{Guard, Refusal};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

/// Longest lease in seconds, longer ones count as this: the server is asked at least twice a day.
pub const LONGEST_LEASE: u32 = 86_400;
/// Events that nobody has taken; further ones are lost.
const EVENTS: usize = 16;

/// What a DHCP server has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: [u8; 4],
    /// Length of the network's prefix in bits.
    pub prefix_length: u8,
    /// The router to other networks.
    pub router: Option<[u8; 4]>,
    /// For how long, from now.
    pub seconds: u32,
    /// Who has given it.
    pub server: [u8; 4],
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a lease, a new one or one that was renewed.
    Leased(Lease),
    /// The lease has run out, or the server has taken it back.
    Lost,
    /// An answer was refused.
    Refused(Refusal),
}

/// The client.
pub struct Client {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    queue: Queue,
    guard: Guard,
    has_lease: bool,
    events: VecDeque<Event>,
}

impl Client {
    /// A client for the station with this (unicast) hardware address, without a lease. `seed` must
    /// not be guessable: transaction numbers come from it.
    pub fn new(hardware: [u8; 6], seed: u64, now: u64) -> Self {
        let mut queue = Queue::default();
        let address = EthernetAddress(hardware);
        let mut config = Config::new(HardwareAddress::Ethernet(address));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut queue, instant(now));
        let mut socket = dhcpv4::Socket::new();
        socket.set_max_lease_duration(Some(Duration::from_secs(LONGEST_LEASE.into())));
        let mut retries = socket.get_retry_config();
        retries.discover_timeout = Duration::from_secs(4);
        socket.set_retry_config(retries);
        // With a buffer each answer that is accepted is an event, also one that only renews. What
        // would be in it [`Guard`] has noted, so it may be an empty one.
        socket.set_receive_packet_buffer(&mut []);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            interface,
            sockets,
            socket,
            queue,
            guard: Guard::new(address),
            has_lease: false,
            events: VecDeque::new(),
        }
    }

    /// Takes in a frame.
    pub fn receive(&mut self, frame: &[u8], now: u64) {
        if let Err(refusal) = self.guard.received(frame) {
            self.event(Event::Refused(refusal));
            return;
        }
        self.queue.received = Some(frame.to_vec());
        self.poll(now);
        self.queue.received = None;
    }

    /// Does what time has brought about. Frames are made only while [`Self::set_up`] says so.
    pub fn poll(&mut self, now: u64) {
        // A lease that has run out takes a second round; more are not needed.
        for _ in 0..4 {
            let before = self.queue.transmitted.len();
            self.interface
                .poll(instant(now), &mut self.queue, &mut self.sockets);
            for frame in self.queue.transmitted.iter().skip(before) {
                self.guard.sent(frame);
            }
            if !self.take_event() && self.queue.transmitted.len() == before {
                return;
            }
        }
    }

    /// Whether frames can be sent.
    pub fn set_up(&mut self, up: bool) {
        self.queue.up = up;
    }

    /// A frame to be sent.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.queue.transmitted.pop_front()
    }

    /// What has happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::poll`] should be called at the latest.
    pub fn next_deadline(&mut self, now: u64) -> Option<u64> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0))
    }

    /// Whether the DHCP socket had something to say.
    fn take_event(&mut self) -> bool {
        let event = self.sockets.get_mut::<dhcpv4::Socket>(self.socket).poll();
        let lease = match event {
            None => return false,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(config)) => self.guard.lease(config.address.address()),
        };
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Some(lease) = lease {
                let address = Ipv4Cidr::new(lease.address.into(), lease.prefix_length);
                // There is room for at least one.
                let _ = addresses.push(IpCidr::Ipv4(address));
            }
        });
        let routes = self.interface.routes_mut();
        match lease.and_then(|lease| lease.router) {
            // There is room for at least one.
            Some(router) => drop(routes.add_default_ipv4_route(router.into())),
            None => drop(routes.remove_default_ipv4_route()),
        }
        match lease {
            Some(lease) => self.event(Event::Leased(lease)),
            // The first event of all says that there is no lease yet.
            None if self.has_lease => self.event(Event::Lost),
            None => {}
        }
        self.has_lease = lease.is_some();
        true
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }
}

fn instant(microseconds: u64) -> Instant {
    Instant::from_micros(i64::try_from(microseconds).unwrap_or(i64::MAX))
}
