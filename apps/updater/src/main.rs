//! The updater: takes programs that are sent to the machine over HTTP, verifies who has signed them, and
//! has init run them.
//!
//! It holds no right to anybody: all that it can do is to write orders for init, which checks them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod init_orders;

use alloc::vec::Vec;
use segue_application::{
    Network, NetworkLimits, Timeout, port, say_listening, seed, start_network,
};
use segue_frame_channel::config::ClientConfig;
use segue_http_core::{Action, Stream};
use segue_libos::{BufferSizes, ConnectionId, Event, Instant, ListenOptions, Stack};
use segue_status::orders;
use segue_status::system::{REGION_SIZE, SystemStatus};
use segue_updater_core::config::{SERIALS_SIZE, UpgradeTable};
use segue_updater_core::{Limits, Server};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, private_region_at, protection_domain, region,
    region_at, var,
};
// Only for its feature `force-soft` (see Cargo.toml).
use sha2 as _;

use crate::init_orders::InitOrders;

/// The port, unless the description sets `listen_port`.
const PORT: u64 = 8081;
/// Connections at once.
const CONNECTIONS: usize = 16;
const BUFFERS: BufferSizes = BufferSizes {
    receive: 32 * 1024,
    send: 8 * 1024,
};
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: CONNECTIONS,
    buffer_memory: CONNECTIONS * (BUFFERS.receive + BUFFERS.send),
    maximum_time_wait: 1024,
};
/// What everything else takes, generously: request heads, tables, segments that wait.
const OTHER_MEMORY: usize = 1 << 20;
const HEAP_SIZE: usize = NETWORK.buffer_memory + NETWORK.maximum_time_wait * 256 + OTHER_MEMORY;

struct Updater {
    stack: Stack,
    network: Network,
    server: Server,
    orders: InitOrders,
    /// The connections by their index, which is how the server knows them.
    connections: Vec<Option<ConnectionId>>,
    clock: Clock,
    timeout: Timeout,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Updater {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let mut orders = orders();
    let table = var!(upgrades: UpgradeTable = UpgradeTable::EMPTY);
    let server = Server::new(table, Limits::default(), &mut orders);
    let (stack, network) = listen(config, &clock);
    let mut updater = Updater {
        stack,
        network,
        server,
        orders,
        connections: Vec::new(),
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
    };
    updater.work();
    updater
}

/// The way to init, and the staging region.
fn orders() -> InitOrders {
    let staging = *var!(staging: u64 = 0);
    let size = *var!(staging_size: u64 = 0);
    let serials = *var!(serials: u64 = 0);
    let orders = *var!(init_orders: u64 = 0);
    let Some(status) = SystemStatus::new(region!(system_status)) else {
        panic!("the region system_status has fewer than {REGION_SIZE} bytes");
    };
    InitOrders::new(
        private_region_at!(staging, size),
        region_at!(serials, SERIALS_SIZE as u64),
        region_at!(orders, orders::REGION_SIZE as u64),
        *var!(init_orderer: u64 = 0) as usize,
        status,
    )
}

/// Joins the network and listens.
fn listen(config: &'static ClientConfig, clock: &Clock) -> (Stack, Network) {
    let port = port(*var!(listen_port: u64 = PORT));
    let (mut stack, network) = start_network(config, NETWORK, seed(clock), clock);
    let options = ListenOptions {
        buffers: BUFFERS,
        ..ListenOptions::default()
    };
    match stack.listen(port, options) {
        Ok(_) => say_listening(&stack, port, ""),
        Err(error) => log::error!("cannot listen on port {port}: {error}"),
    }
    (stack, network)
}

impl Updater {
    /// Takes turns until nothing is left to do.
    fn work(&mut self) {
        loop {
            let now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                self.event(event, now);
            }
            let finished = self.server.look(&mut self.orders);
            for index in finished.into_iter().chain(self.server.overdue(now)) {
                if let Some(Some(id)) = self.connections.get(index).copied() {
                    self.serve(id, now);
                }
            }
            while let Some(remark) = self.server.remark() {
                log::info!("{remark}");
            }
            self.stack.flush(time);
            match frames {
                0 if self.stack.sleep() => break,
                0 => {}
                // As long as clients want something, one such turn follows the other.
                _ => sel4_microkit::progress(),
            }
        }
        let stack = self.stack.next_deadline();
        let stack = stack.map(|at| at.total_micros() as u64);
        let next = [stack, self.server.next_deadline()];
        let next = next.into_iter().flatten().min();
        self.timeout.set(next, &self.clock);
    }

    fn event(&mut self, event: Event, now: u64) {
        match event {
            Event::Accepted { connection, .. } => {
                let index = connection.index();
                if self.connections.len() <= index {
                    self.connections.resize(index + 1, None);
                }
                self.connections[index] = Some(connection);
                self.server.accepted(index, now);
            }
            Event::Ready { connection, .. } => self.serve(connection, now),
            Event::Closed { connection, .. } => {
                if let Some(slot) = self.connections.get_mut(connection.index()) {
                    *slot = None;
                }
                self.server.closed(connection.index());
            }
            // It opens no connections and has no UDP socket.
            Event::Connected { .. } | Event::Datagram { .. } => {}
        }
    }

    fn serve(&mut self, id: ConnectionId, now: u64) {
        let mut stream = Connected {
            stack: &mut self.stack,
            id,
        };
        let orders = &mut self.orders;
        match self.server.ready(id.index(), &mut stream, orders, now) {
            Action::None => {}
            Action::Close => self.stack.close(id),
            Action::Abort => self.stack.abort(id),
        }
    }
}

/// A connection of the stack as the server sees it.
struct Connected<'a> {
    stack: &'a mut Stack,
    id: ConnectionId,
}

impl Stream for Connected<'_> {
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize) {
        let bytes = self.stack.peek(self.id);
        if !bytes.is_empty() {
            let taken = f(bytes);
            self.stack.consume(self.id, taken);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.stack.send(self.id, bytes)
    }

    fn at_end(&self) -> bool {
        self.stack.peer_closed(self.id) && self.stack.receive_queue(self.id) == 0
    }
}

impl Handler for Updater {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.network.notified(channels, &mut self.stack);
        self.work();
        Ok(())
    }
}
