//! The HTTP server application: serves the files packed into the image, and a
//! page that tells what the machine is doing.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod snapshot;
mod stream;

use alloc::boxed::Box;
use segue_application::{
    Network, NetworkLimits, Timeout, port, say_listening, seed, start_network,
};
use segue_director_core::board::{BOARD_SIZE, Board};
use segue_director_core::config::DirectorTable;
use segue_frame_channel::config::ClientConfig;
use segue_http_core::{Action, Limits, Server, Site};
use segue_libos::{BufferSizes, ConnectionId, Event, Instant, ListenOptions, Stack};
use segue_status::crash::{self, CrashReports};
use segue_status::symbols::Symbols;
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, private_region, protection_domain, region,
    region_at, var,
};

use crate::snapshot::{Crashes, Machine, Modes};
use crate::stream::Connected;

/// The port of HTTP, unless the description sets `listen_port`.
const PORT: u64 = 80;
/// Connections at once, idle ones included.
const MAXIMUM_CONNECTIONS: usize = 1280;
/// Largest request head.
const HEAD: usize = 8 * 1024;
/// Buffers of a connection that is not idle.
const BUFFERS: BufferSizes = BufferSizes {
    receive: 8 * 1024,
    send: 64 * 1024,
};
/// Buffers for so many connections that are not idle.
const BUSY_CONNECTIONS: usize = 128;
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: MAXIMUM_CONNECTIONS,
    buffer_memory: BUSY_CONNECTIONS * (BUFFERS.receive + BUFFERS.send),
    maximum_time_wait: 4096,
};
/// What everything else takes, generously: tables, segments that wait, the index
/// of the files, a page in the making.
const OTHER_MEMORY: usize = 2 << 20;
/// Enough when every client holds all that it can, so that none can take the
/// memory away.
const HEAP_SIZE: usize = NETWORK.buffer_memory
    + MAXIMUM_CONNECTIONS * (HEAD + 1024)
    + NETWORK.maximum_time_wait * 256
    + OTHER_MEMORY;

struct Application {
    stack: Stack,
    network: Network,
    server: Server<'static>,
    /// The connections by their index, which is how the server knows them.
    connections: alloc::vec::Vec<Option<ConnectionId>>,
    machine: Machine,
    clock: Clock,
    timeout: Timeout,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Application {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let (stack, network) = listen(config, &clock);
    let files: &'static _ = Box::leak(Box::new(private_region!(files)));
    let archive = files.slice(0, files.length()).unwrap_or_default();
    let site = match Site::new(archive) {
        Ok(site) => site,
        Err(error) => panic!("the files packed into the image cannot be read: {error}"),
    };
    let limits = Limits {
        head_bytes: HEAD,
        ..Limits::default()
    };
    let mut application = Application {
        stack,
        network,
        server: Server::new(site, limits),
        connections: alloc::vec::Vec::new(),
        machine: Machine::new(
            region!(system_status),
            region!(network_status),
            modes(),
            crashes(),
        ),
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
    };
    application.work();
    application
}

/// Why protection domains were stopped; nothing in a system that does not show it.
fn crashes() -> Crashes {
    let optional = |address: u64, size: u64| (address != 0).then(|| region_at!(address, size));
    let reports = *var!(crash_reports: u64 = 0);
    let symbols = (*var!(symbols: u64 = 0), *var!(symbols_size: u64 = 0));
    Crashes {
        reports: optional(reports, crash::REGION_SIZE as u64).and_then(CrashReports::new),
        symbols: optional(symbols.0, symbols.1).and_then(Symbols::new),
    }
}

/// Where modes are shown; `None` in a system without a director, or that does not show them.
fn modes() -> Option<Modes> {
    let table = var!(switchable: DirectorTable = DirectorTable::EMPTY);
    let board = *var!(director_board: u64 = 0);
    let board = (board != 0).then(|| region_at!(board, BOARD_SIZE as u64))?;
    Board::new(board).map(|board| Modes { table, board })
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

impl Application {
    /// Takes turns until nothing is left to do.
    fn work(&mut self) {
        loop {
            let now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                self.event(event, now);
            }
            for index in self.server.overdue(now) {
                if let Some(Some(id)) = self.connections.get(index).copied() {
                    self.serve(id, now);
                }
            }
            self.stack.flush(time);
            match frames {
                0 if self.stack.sleep() => break,
                0 => {}
                // As long as clients want something, one such turn follows the other.
                _ => sel4_microkit::progress(),
            }
        }
        let stack = self
            .stack
            .next_deadline()
            .map(|at| at.total_micros() as u64);
        let next = [stack, self.server.next_sweep()]
            .into_iter()
            .flatten()
            .min();
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
        let counters = self.server.counters();
        self.machine.requests = (counters.answered, counters.refused);
        self.machine.connections = self.server.open();
        self.machine.addresses = self.stack.addresses();
        self.machine.stack = self.stack.statistics();
        self.machine.held = [
            ("open_handshakes", self.stack.open_handshakes() as u64),
            ("open_ports", self.stack.open_ports() as u64),
            ("in_time_wait", self.stack.time_wait_entries() as u64),
            ("buffer_bytes", self.stack.buffer_memory() as u64),
        ];
        self.machine.now = now;
        #[cfg(segue_fragile)]
        {
            self.machine.clock = Some(self.clock);
        }
        let mut stream = Connected {
            stack: &mut self.stack,
            id,
        };
        match self
            .server
            .ready(id.index(), &mut stream, &mut self.machine, now)
        {
            Action::None => {}
            Action::Close => self.stack.close(id),
            Action::Abort => self.stack.abort(id),
        }
    }
}

impl Handler for Application {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.network.notified(channels, &mut self.stack);
        self.work();
        Ok(())
    }
}
