//! The echo application: sends back what comes over TCP and UDP (RFC 862), and messages one by one
//! for measurements of round trips; at a port of its own it sends nothing back (RFC 863).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use segue_application::{
    Network, NetworkLimits, Timeout, port, say_listening, seed, start_network,
};
use segue_echo_core::{Action, Echo, Mode, Stream, answers};
use segue_frame_channel::config::ClientConfig;
use segue_libos::{
    BufferSizes, ConnectionId, Event, Instant, ListenOptions, ListenerId, Stack, UdpId,
};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

/// Connections at once, idle ones included.
const CONNECTIONS: usize = 64;
/// Buffers of a connection that is not idle.
const BUFFERS: BufferSizes = BufferSizes {
    receive: 32 * 1024,
    send: 128 * 1024,
};
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: CONNECTIONS,
    buffer_memory: 32 * (BUFFERS.receive + BUFFERS.send),
    maximum_time_wait: 2048,
};
/// Longest message.
const MESSAGE: usize = 1 << 20;
/// Memory for messages that are not complete, and for what clients do not take.
const ECHO_MEMORY: usize = 8 << 20;
/// Datagrams that wait, each way.
const DATAGRAM_MEMORY: usize = 256 * 1024;
/// No datagram is longer.
const DATAGRAM: usize = 65_507;
/// What everything else takes, generously.
const OTHER_MEMORY: usize = 2 << 20;
/// A message's buffer doubles while it grows, so twice its memory.
const HEAP_SIZE: usize = NETWORK.buffer_memory
    + NETWORK.maximum_time_wait * 256
    + 2 * ECHO_MEMORY
    + 2 * DATAGRAM_MEMORY
    + OTHER_MEMORY;

struct Application {
    stack: Stack,
    network: Network,
    /// Where messages are sent back one by one.
    messages: Option<ListenerId>,
    /// Where nothing is sent back, if the description has such a port.
    discard: Option<ListenerId>,
    /// The streams by the index of their connections.
    streams: Vec<Option<Echo>>,
    /// Bytes that they hold.
    memory: usize,
    datagram: Vec<u8>,
    clock: Clock,
    timeout: Timeout,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Application {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let echo_port = port(*var!(echo_port: u64 = 7));
    let message_port = port(*var!(message_port: u64 = 5002));
    let (mut stack, network) = start_network(config, NETWORK, seed(&clock), &clock);
    listen(&mut stack, echo_port);
    let messages = listen(&mut stack, message_port);
    let discard_port = *var!(discard_port: u64 = 0);
    let discard = match discard_port {
        0 => None,
        number => listen(&mut stack, port(number)),
    };
    match stack.udp_bind(echo_port, DATAGRAM_MEMORY) {
        Ok(_) => say_listening(&stack, echo_port, " (UDP)"),
        Err(error) => log::error!("cannot listen on port {echo_port} (UDP): {error}"),
    }
    let mut application = Application {
        stack,
        network,
        messages,
        discard,
        streams: Vec::new(),
        memory: 0,
        datagram: vec![0; DATAGRAM],
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
    };
    application.work();
    application
}

fn listen(stack: &mut Stack, port: u16) -> Option<ListenerId> {
    let options = ListenOptions {
        buffers: BUFFERS,
        ..ListenOptions::default()
    };
    match stack.listen(port, options) {
        Ok(listener) => {
            say_listening(stack, port, "");
            Some(listener)
        }
        Err(error) => {
            log::error!("cannot listen on port {port}: {error}");
            None
        }
    }
}

impl Application {
    /// Takes turns until nothing is left to do.
    fn work(&mut self) {
        loop {
            let now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                self.event(event);
            }
            self.stack.flush(time);
            match frames {
                0 if self.stack.sleep() => break,
                0 => {}
                // As long as clients want something, one such turn follows the other.
                _ => sel4_microkit::progress(),
            }
        }
        let next = self
            .stack
            .next_deadline()
            .map(|at| at.total_micros() as u64);
        self.timeout.set(next, &self.clock);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Accepted {
                listener,
                connection,
                ..
            } => {
                let index = connection.index();
                if self.streams.len() <= index {
                    self.streams.resize_with(index + 1, || None);
                }
                let mode = match Some(listener) {
                    it if it == self.messages => Mode::Messages(MESSAGE),
                    it if it == self.discard => Mode::Discard,
                    _ => Mode::Bytes,
                };
                self.streams[index] = Some(Echo::new(mode));
            }
            Event::Ready { connection, .. } => self.serve(connection),
            Event::Closed { connection, .. } => self.forget(connection),
            Event::Datagram { socket } => self.datagrams(socket),
            // It opens no connections.
            Event::Connected { .. } => {}
        }
    }

    fn serve(&mut self, id: ConnectionId) {
        let Some(Some(echo)) = self.streams.get_mut(id.index()) else {
            return;
        };
        let mut stream = Connected {
            stack: &mut self.stack,
            id,
        };
        let before = echo.memory();
        let limit = (ECHO_MEMORY + before).saturating_sub(self.memory);
        let action = echo.serve(&mut stream, limit);
        self.memory = self.memory - before + echo.memory();
        match action {
            Action::None => {}
            Action::Close => {
                self.forget(id);
                self.stack.close(id);
            }
            Action::Abort => {
                self.forget(id);
                self.stack.abort(id);
            }
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(echo) = self.streams.get_mut(id.index()).and_then(Option::take) {
            self.memory -= echo.memory();
        }
    }

    /// Sends datagrams back. One for which there is no room is lost, as datagrams are.
    fn datagrams(&mut self, socket: UdpId) {
        while let Some((length, from)) = self.stack.udp_receive(socket, &mut self.datagram) {
            if let Some(bytes) = self.datagram.get(..length)
                && answers(from)
            {
                self.stack.udp_send(socket, from, bytes);
            }
        }
    }
}

/// A connection of the stack as its echo sees it.
struct Connected<'a> {
    stack: &'a mut Stack,
    id: ConnectionId,
}

impl Stream for Connected<'_> {
    fn receive(&mut self, to: &mut [u8]) -> usize {
        self.stack.receive(self.id, to)
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
