//! Test: opens connections, over and over, to the HTTP application behind its own
//! address and to a host outside that sends everything back (at the router's
//! addresses), over both families in turn. It looks at each byte, and at the end
//! whether it has all its ports back. Then it faults, so that the port map says how
//! many it still had: those of one UDP socket.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod dialog;

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use segue_application::{NetworkLimits, Timeout, port, seed, start_network};
use segue_frame_channel::config::ClientConfig;
use segue_libos::{
    BufferSizes, CloseReason, ConnectOptions, ConnectionId, Duration, Event, Instant, Stack,
};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

use dialog::{Dialog, Service};

/// Connections at once.
const AT_ONCE: usize = 8;
const BUFFERS: BufferSizes = BufferSizes {
    receive: 16 * 1024,
    send: 32 * 1024,
};
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: 64,
    buffer_memory: 16 * (BUFFERS.receive + BUFFERS.send),
    maximum_time_wait: 16_384,
};
/// Until the others listen, and the link is up, attempts fail.
const PATIENCE: u64 = 60_000_000;
/// Time before the next attempt.
const PAUSE: u64 = 20_000;
/// The port map's own time for a held port ends a bit later than ours.
const SETTLE: u64 = 1_000_000;
const HEAP_SIZE: usize =
    NETWORK.buffer_memory + NETWORK.maximum_time_wait * 512 + AT_ONCE * 64 * 1024 + (4 << 20);

/// Somebody to connect to.
struct Target {
    remote: SocketAddr,
    service: Service,
    /// Connections still to be opened.
    left: u64,
    open: usize,
    finished: u64,
    bytes: u64,
}

struct Application {
    stack: Stack,
    targets: Vec<Target>,
    /// The connections by their index, with their targets.
    dialogs: Vec<Option<(usize, Dialog)>>,
    /// Ports in use before the first connection.
    ports: usize,
    not_before: u64,
    began: u64,
    /// When it has waited long enough after the last port was given back: so long the
    /// port map may still hold some.
    end: Option<u64>,
    clock: Clock,
    timeout: Timeout,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Application {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let web = port(*var!(inside_port: u64 = 80));
    let echo = port(*var!(outside_port: u64 = 7000));
    let count = *var!(connections: u64 = 0);
    let service = Service::Http {
        length: *var!(body_length: u64 = 0),
        checksum: *var!(body_checksum: u64 = 0),
    };
    let (stack, _) = start_network(config, NETWORK, seed(&clock), &clock);
    let addresses = stack.addresses();
    let inside = [
        addresses.ipv4.map(|network| IpAddr::V4(network.address)),
        addresses.ipv6.map(|network| IpAddr::V6(network.address)),
    ];
    let outside = [
        addresses
            .ipv4
            .and_then(|network| network.gateway)
            .map(IpAddr::V4),
        addresses
            .ipv6
            .and_then(|network| network.gateway)
            .map(IpAddr::V6),
    ];
    let inside = inside
        .into_iter()
        .flatten()
        .map(|address| (address, web, service));
    let outside = outside
        .into_iter()
        .flatten()
        .map(|address| (address, echo, Service::Echo));
    let targets = inside
        .chain(outside)
        .map(|(address, port, service)| Target {
            remote: SocketAddr::new(address, port),
            service,
            left: count,
            open: 0,
            finished: 0,
            bytes: 0,
        })
        .collect();
    let mut application = Application {
        ports: stack.open_ports(),
        stack,
        targets,
        dialogs: Vec::new(),
        not_before: 0,
        began: clock.now_microseconds(),
        end: None,
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
    };
    application.work();
    application
}

impl Application {
    /// Takes turns until nothing is left to do.
    fn work(&mut self) {
        let mut now;
        loop {
            now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                self.event(event, now);
            }
            self.open(now);
            self.stack.flush(time);
            if frames == 0 && self.stack.sleep() {
                break;
            }
        }
        self.finish(now);
        let next = self
            .stack
            .next_deadline()
            .map(|at| at.total_micros() as u64);
        let retry = (self.not_before > now).then_some(self.not_before);
        let next = next.into_iter().chain(retry).chain(self.end).min();
        self.timeout.set(next, &self.clock);
    }

    /// Opens as many connections as there may be at once.
    fn open(&mut self, now: u64) {
        if now < self.not_before {
            return;
        }
        for index in 0..self.targets.len() {
            let share = AT_ONCE / self.targets.len();
            while self.targets[index].left > 0 && self.targets[index].open < share {
                let target = &mut self.targets[index];
                let options = ConnectOptions {
                    buffers: BUFFERS,
                    connect_timeout: Duration::from_secs(60),
                    timeout: Some(Duration::from_secs(60)),
                    ..ConnectOptions::default()
                };
                let id = match self.stack.connect(target.remote, options) {
                    Ok(id) => id,
                    Err(error) => panic!("cannot connect to {}: {error}", target.remote),
                };
                target.left -= 1;
                target.open += 1;
                let dialog = Dialog::new(target.service, target.left);
                if self.dialogs.len() <= id.index() {
                    self.dialogs.resize_with(id.index() + 1, || None);
                }
                self.dialogs[id.index()] = Some((index, dialog));
            }
        }
    }

    fn event(&mut self, event: Event, now: u64) {
        match event {
            Event::Connected { connection } | Event::Ready { connection, .. } => {
                self.talk(connection);
            }
            Event::Closed { connection, reason } => self.closed(connection, reason, now),
            // It does not listen.
            Event::Accepted { .. } | Event::Datagram { .. } => {}
        }
    }

    fn talk(&mut self, id: ConnectionId) {
        let Some(Some((index, dialog))) = self.dialogs.get_mut(id.index()) else {
            return;
        };
        let target = &self.targets[*index];
        if let Err(what) = dialog.go_on(&mut self.stack, id, &target.remote) {
            panic!("{}: {what}", target.remote);
        }
    }

    fn closed(&mut self, id: ConnectionId, reason: CloseReason, now: u64) {
        let Some((index, dialog)) = self.dialogs.get_mut(id.index()).and_then(Option::take) else {
            return;
        };
        let target = &mut self.targets[index];
        target.open -= 1;
        match reason {
            CloseReason::Finished if dialog.is_complete() => {
                target.finished += 1;
                target.bytes += dialog.bytes();
            }
            CloseReason::Refused | CloseReason::Unreachable
                if target.finished == 0 && now < self.began + PATIENCE =>
            {
                target.left += 1;
                self.not_before = now + PAUSE;
            }
            reason => panic!(
                "{}: a connection ended so: {reason:?}, after {} bytes and {} good ones",
                target.remote,
                dialog.bytes(),
                target.finished
            ),
        }
        if target.left == 0 && target.open == 0 {
            log::info!(
                "{} connections to {}, {} bytes, all right",
                target.finished,
                target.remote,
                target.bytes
            );
        }
    }

    /// When everything is over and all ports are back, says so and faults.
    fn finish(&mut self, now: u64) {
        let busy = self
            .targets
            .iter()
            .any(|target| target.left > 0 || target.open > 0);
        if busy || self.targets.is_empty() || self.stack.open_ports() > self.ports {
            return;
        }
        if now < *self.end.get_or_insert(now + SETTLE) {
            return;
        }
        let statistics = self.stack.statistics();
        log::info!(
            "all ports are back: {} connections open, {} in TIME_WAIT, {} retransmissions",
            self.stack.open_connections(),
            self.stack.time_wait_entries(),
            statistics.retransmissions
        );
        if let Err(error) = self.stack.udp_bind(0, 1024) {
            panic!("no UDP port: {error}");
        }
        panic!("this fault is meant to be");
    }
}

impl Handler for Application {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.work();
        Ok(())
    }
}
