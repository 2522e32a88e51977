//! Test: sends a numbered datagram every 100 microseconds to who asks for it, and sends back and
//! counts those that it gets.
//!
//! While it sends it never sleeps, so that it can always send: it watches the clock and takes turns
//! of its stack. Once for each datagram it has the timer signal it at once, and so hears what else it
//! was signalled.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::ToString;
use core::net::SocketAddr;
use segue_application::{Network, NetworkLimits, Timeout, say_listening, seed, start_network};
use segue_frame_channel::config::ClientConfig;
use segue_libos::{Event, Instant, Stack, UdpId};
use segue_metronome_core::{
    Beat, ECHO_PORT, MAXIMUM_NUMBERS, Numbered, REQUEST_PORT, Report, Request, STREAM_LENGTH, Tally,
};
use sel4_microkit::{
    ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

/// It has no connections.
const NETWORK: NetworkLimits = NetworkLimits {
    maximum_connections: 1,
    buffer_memory: 64 * 1024,
    maximum_time_wait: 1,
};
/// Datagrams that wait, each way, in each socket.
const DATAGRAM_MEMORY: usize = 64 * 1024;
/// Longer ones mean nothing to it.
const DATAGRAM: usize = STREAM_LENGTH;
/// A bit for each number, and what else there is, generously.
const HEAP_SIZE: usize = (MAXIMUM_NUMBERS / 8) as usize + 4 * DATAGRAM_MEMORY + (1 << 20);

struct Metronome {
    stack: Stack,
    network: Network,
    clock: Clock,
    timeout: Timeout,
    requests: Option<UdpId>,
    echo: Option<UdpId>,
    /// The stream under way, or the last one, and who gets it.
    stream: Option<(Beat, SocketAddr)>,
    /// Times that a datagram of it found no room.
    delayed: u64,
    tally: Tally,
    /// Datagrams to the echo port that were not numbered.
    strange: u64,
}

#[protection_domain(heap_size = HEAP_SIZE)]
fn init() -> Metronome {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let (mut stack, network) = start_network(config, NETWORK, seed(&clock), &clock);
    let requests = bind(&mut stack, REQUEST_PORT);
    let echo = bind(&mut stack, ECHO_PORT);
    let mut metronome = Metronome {
        stack,
        network,
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
        requests,
        echo,
        stream: None,
        delayed: 0,
        tally: Tally::new(MAXIMUM_NUMBERS),
        strange: 0,
    };
    metronome.work();
    metronome
}

fn bind(stack: &mut Stack, port: u16) -> Option<UdpId> {
    match stack.udp_bind(port, DATAGRAM_MEMORY) {
        Ok((socket, _)) => {
            say_listening(stack, port, " (UDP)");
            Some(socket)
        }
        Err(error) => {
            log::error!("cannot listen on port {port} (UDP): {error}");
            None
        }
    }
}

impl Metronome {
    /// Takes turns until a datagram of the stream was sent or nothing is left to do.
    fn work(&mut self) {
        loop {
            let now = self.clock.now_microseconds();
            let time = Instant::from_micros(now as i64);
            let frames = self.stack.poll(time);
            while let Some(event) = self.stack.next_event() {
                if let Event::Datagram { socket } = event {
                    self.datagrams(socket);
                }
            }
            let has_sent = self.beat();
            self.stack.flush(time);
            if has_sent {
                self.timeout.set_at_once();
                return;
            }
            if self.is_sending() {
                continue;
            }
            if frames == 0 && self.stack.sleep() {
                break;
            }
        }
        let next = self
            .stack
            .next_deadline()
            .map(|at| at.total_micros() as u64);
        self.timeout.set(next, &self.clock);
    }

    fn is_sending(&self) -> bool {
        self.stream.is_some_and(|(beat, _)| !beat.is_over())
    }

    /// Sends the stream's next datagram if it is time. One for which there is no room is sent when
    /// there is.
    fn beat(&mut self) -> bool {
        let (Some((beat, to)), Some(socket)) = (&mut self.stream, self.requests) else {
            return false;
        };
        let now = self.clock.now_microseconds();
        let Some(number) = beat.due(now) else {
            return false;
        };
        let datagram = Numbered {
            number,
            sent_at: now,
        };
        let has_sent = self.stack.udp_send(socket, *to, &datagram.to_long_bytes());
        if has_sent {
            beat.sent(now);
        } else {
            self.delayed += 1;
        }
        has_sent
    }

    fn datagrams(&mut self, socket: UdpId) {
        let mut bytes = [0; DATAGRAM];
        while let Some((length, from)) = self.stack.udp_receive(socket, &mut bytes) {
            // What did not fit whole means nothing.
            let datagram = bytes.get(..length).unwrap_or(&[]);
            if Some(socket) == self.echo {
                self.count(socket, datagram, from);
            } else if let Some(request) = Request::parse(datagram) {
                self.serve(socket, request, from);
            }
        }
    }

    fn count(&mut self, socket: UdpId, datagram: &[u8], from: SocketAddr) {
        match Numbered::from_bytes(datagram) {
            Some(Numbered { number, .. }) => {
                self.tally.record(number, self.clock.now_microseconds());
                self.stack.udp_send(socket, from, datagram);
            }
            None => self.strange += 1,
        }
    }

    fn serve(&mut self, socket: UdpId, request: Request, from: SocketAddr) {
        match request {
            Request::Start(_) if self.is_sending() => {}
            Request::Start(count) => {
                let beat = Beat::new(count, self.clock.now_microseconds());
                self.stream = Some((beat, from));
                self.delayed = 0;
            }
            Request::Stop => self.stream = None,
            Request::Clear => {
                self.tally.clear();
                self.strange = 0;
            }
            Request::Report => {
                let text = self.report().to_string();
                self.stack.udp_send(socket, from, text.as_bytes());
            }
            Request::Mark(_) => {}
        }
    }

    fn report(&self) -> Report {
        Report {
            distinct: self.tally.distinct(),
            doubled: self.tally.doubled(),
            reordered: self.tally.reordered(),
            outside: self.tally.outside() + self.strange,
            longest_gap: self.tally.longest_gap(),
            sent: self.stream.map_or(0, |(beat, _)| beat.count_sent()),
            delayed: self.delayed,
        }
    }
}

impl Handler for Metronome {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.network.notified(channels, &mut self.stack);
        self.work();
        Ok(())
    }
}
