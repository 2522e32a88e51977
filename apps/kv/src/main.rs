//! The key-value server application: strings, counters and expiry over RESP, the protocol of Redis.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use segue_application::{
    Network, NetworkLimits, Timeout, port, say_listening, seed, start_network,
};
use segue_frame_channel::config::ClientConfig;
use segue_kv_core::{Action, Limit, Limits, Server, Stream};
use segue_libos::{BufferSizes, ConnectionId, Duration, Event, Instant, ListenOptions, Stack};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

/// Clients at once, idle ones included.
const CLIENTS: usize = 256;
/// Buffers of a connection that is not idle.
const BUFFERS: BufferSizes = BufferSizes {
    receive: 16 * 1024,
    send: 64 * 1024,
};
/// Buffers for so many connections that are not idle.
const BUSY_CONNECTIONS: usize = 128;
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: CLIENTS,
    buffer_memory: BUSY_CONNECTIONS * (BUFFERS.receive + BUFFERS.send),
    maximum_time_wait: 4096,
};
/// A client that says nothing for so long is disconnected.
const TIMEOUT: Duration = Duration::from_secs(600);
const LIMITS: Limits = Limits {
    store_bytes: 16 << 20,
    client_bytes: 8 << 20,
    clients: CLIENTS,
    request: Limit {
        arguments: 16 * 1024,
        argument_bytes: 512 * 1024,
        request_bytes: 1 << 20,
    },
    answer_bytes: 1 << 20,
};
/// What everything else takes, generously: tables, segments that wait, one client's buffers
/// while they grow, a large value being replaced.
const OTHER_MEMORY: usize = 6 << 20;
/// Enough when every client holds all that it can. Memory that is there and still cannot be had
/// in one piece is refused with an error, not a panic.
const HEAP_SIZE: usize = LIMITS.store_bytes
    + LIMITS.client_bytes
    + NETWORK.buffer_memory
    + NETWORK.maximum_time_wait * 256
    + OTHER_MEMORY;

struct Application {
    stack: Stack,
    network: Network,
    server: Server,
    /// The connections by their index, which is how the server knows them.
    connections: Vec<Option<ConnectionId>>,
    clock: Clock,
    timeout: Timeout,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Application {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let port = port(*var!(listen_port: u64 = 6379));
    let (mut stack, network) = start_network(config, NETWORK, seed(&clock), &clock);
    let options = ListenOptions {
        buffers: BUFFERS,
        timeout: Some(TIMEOUT),
        ..ListenOptions::default()
    };
    match stack.listen(port, options) {
        Ok(_) => say_listening(&stack, port, ""),
        Err(error) => log::error!("cannot listen on port {port}: {error}"),
    }
    let now = clock.now_microseconds();
    let mut application = Application {
        stack,
        network,
        server: Server::new(LIMITS, seed(&clock), port, TIMEOUT.secs(), now),
        connections: Vec::new(),
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
    };
    application.work();
    application
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
            self.server.tick(now);
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
        let next = [stack, self.server.next_tick()].into_iter().flatten().min();
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
                if !self.server.accepted(index) {
                    self.stack.abort(connection);
                }
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
        match self.server.ready(id.index(), &mut stream, now) {
            Action::None => {}
            Action::Close => self.stack.close(id),
            Action::Abort => self.stack.abort(id),
        }
        while let Some(evicted) = self.server.next_evicted() {
            if let Some(Some(id)) = self.connections.get(evicted) {
                self.stack.abort(*id);
            }
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

impl Handler for Application {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.network.notified(channels, &mut self.stack);
        self.work();
        Ok(())
    }
}
