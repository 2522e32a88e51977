//! Test: gets a file from each application of the system `visitors`, one after the other, over
//! IPv4 and IPv6, and says what came. It does so once, or as often as the description says.
//!
//! With `only_host` (the last part of an IPv4 address) it visits that one alone, every 50 ms, and says
//! something only if what comes is no file or not the one that came first.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use segue_application::{Network, NetworkLimits, Timeout, seed, start_network};
use segue_frame_channel::config::ClientConfig;
use segue_libos::{ConnectOptions, ConnectionId, Event, Instant, Stack};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

const REQUEST: &[u8] = b"GET /128k.bin HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n";
/// Last parts of the addresses that are visited; the IPv6 ones look like the IPv4 ones.
const HOSTS: [(u8, u16); 3] = [(15, 0x15), (20, 0x20), (32, 0x32)];
const LIMITS: NetworkLimits = NetworkLimits {
    maximum_connections: 8,
    buffer_memory: 1 << 20,
    maximum_time_wait: 64,
};

/// Microseconds from one visit of an only host to the next.
const PAUSE: u64 = 50_000;

struct Visitor {
    stack: Stack,
    network: Network,
    clock: Clock,
    timeout: Timeout,
    /// Who is still to be visited, the next one last.
    hosts: Vec<IpAddr>,
    /// Whether there is one alone, and what it gave first.
    is_only: bool,
    first: Option<u64>,
    /// When the next visit begins, in microseconds.
    next: u64,
    /// How often all are visited after that.
    rounds: u64,
    /// The visit under way, and what has come.
    visit: Option<(IpAddr, ConnectionId)>,
    answer: Vec<u8>,
}

#[protection_domain(heap_size = 0x40_0000)]
fn init() -> Visitor {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let (stack, network) = start_network(config, LIMITS, seed(&clock), &clock);
    let mut visitor = Visitor {
        stack,
        network,
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
        hosts: hosts(),
        is_only: only_host().is_some(),
        first: None,
        next: 0,
        rounds: var!(rounds: u64 = 1).saturating_sub(1),
        visit: None,
        answer: Vec::new(),
    };
    visitor.work();
    visitor
}

fn only_host() -> Option<u8> {
    let last = u8::try_from(*var!(only_host: u64 = 0)).ok();
    last.filter(|last| *last != 0)
}

/// All that are visited, the first one last.
fn hosts() -> Vec<IpAddr> {
    if let Some(last) = only_host() {
        return Vec::from([IpAddr::V4(Ipv4Addr::new(10, 0, 2, last))]);
    }
    let ipv4 = HOSTS.map(|(last, _)| IpAddr::V4(Ipv4Addr::new(10, 0, 2, last)));
    let ipv6 = HOSTS.map(|(_, last)| {
        let address = Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, last);
        IpAddr::V6(address)
    });
    ipv4.into_iter().chain(ipv6).rev().collect()
}

/// FNV-1a: of other bytes, or the same in another order, it is another one.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Visitor {
    fn work(&mut self) {
        loop {
            let now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                self.event(event);
            }
            if self.visit.is_none() && now >= self.next {
                self.begin();
            }
            self.stack.flush(time);
            if frames == 0 && self.stack.sleep() {
                break;
            }
        }
        let next = self
            .stack
            .next_deadline()
            .map(|at| at.total_micros() as u64);
        let visit = (self.visit.is_none() && !self.hosts.is_empty()).then_some(self.next);
        let next = [next, visit].into_iter().flatten().min();
        self.timeout.set(next, &self.clock);
    }

    fn begin(&mut self) {
        let Some(host) = self.hosts.pop() else {
            return;
        };
        self.answer.clear();
        let remote = SocketAddr::new(host, 80);
        match self.stack.connect(remote, ConnectOptions::default()) {
            Ok(connection) => self.visit = Some((host, connection)),
            Err(error) => log::error!("cannot connect to {remote}: {error}"),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { connection } => {
                self.stack.send(connection, REQUEST);
            }
            Event::Ready { connection, .. } => self.read(connection),
            Event::Closed { reason, .. } => self.end(&reason),
            Event::Accepted { .. } | Event::Datagram { .. } => {}
        }
    }

    fn read(&mut self, connection: ConnectionId) {
        let mut bytes = [0; 4096];
        loop {
            let count = self.stack.receive(connection, &mut bytes);
            if count == 0 {
                break;
            }
            self.answer.extend(bytes.iter().take(count));
        }
        if self.stack.peer_closed(connection) {
            self.stack.close(connection);
        }
    }

    /// Says what has come: the length of the file and its checksum.
    fn end(&mut self, reason: &dyn core::fmt::Debug) {
        let Some((host, _)) = self.visit.take() else {
            return;
        };
        let head = self.answer.windows(4).position(|end| end == b"\r\n\r\n");
        let is_fine = self.answer.starts_with(b"HTTP/1.1 200 ");
        match head.and_then(|head| self.answer.get(head + 4..)) {
            Some(file) if is_fine && self.is_only => {
                let sum = checksum(file);
                if *self.first.get_or_insert(sum) != sum {
                    log::error!("{host} gave other bytes than before");
                }
            }
            Some(file) if is_fine => {
                let sum = checksum(file);
                log::info!("{host} gave {} bytes, checksum {sum:016x}", file.len());
            }
            _ => log::error!("{host} gave no file: {reason:?}"),
        }
        if self.is_only {
            self.hosts = hosts();
            self.next = self.clock.now_microseconds() + PAUSE;
        } else if self.hosts.is_empty() && self.rounds > 0 {
            self.rounds -= 1;
            self.hosts = hosts();
        } else if self.hosts.is_empty() {
            log::info!("all are visited");
        }
    }
}

impl Handler for Visitor {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.network.notified(channels, &mut self.stack);
        self.work();
        Ok(())
    }
}
