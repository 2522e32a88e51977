//! Test: plays every hostile part.
//!
//! It owns the UDP and TCP port 9 of the address that it shares with the HTTP application. What it
//! does is told by datagrams to that port:
//!
//! - `visit`: asks the other application for a file
//! - `forge N`: each kind of forged frame N times, and an honest datagram after them
//! - `honest N`: each kind of honest frame N times
//! - `rewrite N`: N honest frames whose headers it replaces by forged ones while they are on their way
//! - `flood WHAT`: goes on with it until it is told `stop` (see [`flood`])
//! - `flood stall N`: like `flood neighbour`, but takes no frame out of its receive ring for N turns
//! - `stall`: takes no frame out of its receive ring any more
//! - `break`: writes nonsense into its channel
//! - `fault`: faults
//! - `crash N`: faults, and in each of its next N lives as soon as it runs
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod flood;
mod link;
mod visit;

use alloc::boxed::Box;
use core::sync::atomic::Ordering::Relaxed;

use segue_forgeries::{Frame, HONEST, OWN_PORT, Parties};
use segue_frame_channel::FrameOffload;
use segue_frame_channel::config::ClientConfig;
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{Families, PortClient, Protocol};
use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, get_mr, protection_domain, region_at,
    set_mr, var,
};

use flood::Flood;
use link::Link;

const PORT: u16 = OWN_PORT;
/// The other application's port.
const HTTP: u16 = segue_forgeries::ANOTHERS_PORT;
/// Frames handed in before the server is told of them.
const BATCH: usize = 24;

struct Rogue {
    link: Link,
    config: &'static ClientConfig,
    visit: visit::Visit,
    frame: Box<Frame>,
    flood: Option<Flood>,
    /// For so many turns of its flood it takes no frames.
    stall: usize,
    stalled: bool,
}

#[protection_domain(heap_size = 0x80000)]
fn init() -> Rogue {
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    die_again();
    let mut ports = port_client(config);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        match ports.bind(protocol, PORT, Families::Both) {
            Ok(()) => log::info!("port {PORT} is mine"),
            Err(error) => log::error!("port {PORT}: {error}"),
        }
    }
    Rogue {
        link: Link::new(config),
        config,
        visit: visit::Visit::default(),
        frame: Box::default(),
        flood: None,
        stall: 0,
        stalled: false,
    }
}

/// Lives still to be ended at once: a word that outlives them; `None` where nobody restarts it.
fn crashes_left() -> Option<Region> {
    let address = *var!(crashes: u64 = 0);
    (address != 0).then(|| region_at!(address, 0x1000))
}

fn die_again() {
    if let Some(crashes) = crashes_left() {
        let left = crashes.load64(0, Relaxed);
        if left > 0 {
            crashes.store64(0, left - 1, Relaxed);
            panic!("once more");
        }
    }
}

fn port_client(config: &ClientConfig) -> PortClient<impl FnMut(Message) -> Message + use<>> {
    let portmap = Channel::new(config.portmap_channel as usize);
    PortClient::new(move |message| {
        let registers = message.sent();
        for (index, register) in registers.iter().enumerate() {
            set_mr(index, *register);
        }
        let answer = portmap.pp_call(MessageInfo::new(message.label, registers.len()));
        Message::read(answer.label(), answer.count(), get_mr)
    })
}

/// Tries to take the HTTP application's port away.
fn grab_port(config: &ClientConfig) {
    let mut ports = port_client(config);
    if ports.release(Protocol::Tcp, HTTP, Families::Both).is_ok() {
        log::error!("I could release another's port");
    }
    match ports.bind(Protocol::Tcp, HTTP, Families::Both) {
        Ok(()) => log::error!("port {HTTP} is mine"),
        Err(error) => log::info!("port {HTTP}: {error}"),
    }
}

/// The server is to compute the checksums of TCP between applications.
fn offload(frame: &[u8]) -> FrameOffload {
    let inside = frame.get(23) == Some(&visit::TCP) && frame[..6] == frame[6..12];
    FrameOffload {
        ipv4_checksum: inside,
        transport_checksum: inside,
        segment_size: 0,
    }
}

/// The text of a command.
fn text(request: &[u8]) -> &str {
    let text = request.get(42..).unwrap_or_default();
    core::str::from_utf8(text)
        .unwrap_or_default()
        .trim_end_matches('\0')
}

impl Rogue {
    fn parties(&self, request: &[u8]) -> Parties {
        let addresses = &self.config.addresses;
        let mut parties = Parties {
            mac: addresses.mac,
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            peer_mac: [0; 6],
            peer_ipv4: [0; 4],
            peer_ipv6: addresses.ipv6_gateway,
        };
        parties.peer_mac.copy_from_slice(&request[6..12]);
        parties.peer_ipv4.copy_from_slice(&request[26..30]);
        parties
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.link.hand_in_bytes(bytes, offload(bytes)).is_some() {
            self.link.publish();
        }
    }

    /// Sends what `make` makes, so many times. Returns how many were handed in.
    fn send_often(&mut self, count: usize, make: impl FnOnce(&mut Frame)) -> usize {
        make(&mut self.frame);
        let mut sent = 0;
        for number in 0..count {
            sent += usize::from(self.link.hand_in(&self.frame).is_some());
            if (number + 1).is_multiple_of(BATCH) {
                self.link.publish();
                self.link.poll();
            }
        }
        self.link.publish();
        self.link.poll();
        sent
    }

    fn forge(&mut self, count: usize, parties: &Parties) {
        grab_port(self.config);
        let mut sent = 0;
        for forgery in segue_forgeries::forgeries() {
            sent += self.send_often(count, |frame| forgery.make(parties, frame));
        }
        let left = self.link.channel.unconfirmed();
        log::info!("{sent} forged frames were handed in, {left} are not confirmed");
        self.send_often(1, |frame| HONEST[0].make(0, parties, frame));
    }

    fn honest(&mut self, count: usize, parties: &Parties) {
        let mut sent = 0;
        // In turn: a last fragment goes with its first one.
        for _ in 0..count {
            for (index, honest) in (0..).zip(HONEST) {
                sent += self.send_often(1, |frame| honest.make(index, parties, frame));
            }
        }
        log::info!("{sent} honest frames were handed in");
    }

    /// Interrupts come while the headers are half replaced; the server then sees them so.
    fn rewrite(&mut self, count: usize, parties: &Parties) {
        HONEST[0].make(0, parties, &mut self.frame);
        let honest = self.frame.clone();
        let mut forgeries = segue_forgeries::forgeries().cycle();
        let mut sent = 0;
        for _ in 0..count {
            // Of the same length, so that it is the header alone that changes.
            for forgery in &mut forgeries {
                forgery.make(parties, &mut self.frame);
                if self.frame.bytes().len() == honest.bytes().len() {
                    break;
                }
            }
            for _ in 0..BATCH {
                let Some(at) = self.link.hand_in(&honest) else {
                    continue;
                };
                sent += 1;
                self.link.rewrite(at, self.frame.bytes());
                self.link.rewrite(at, honest.bytes());
                self.link.publish();
                self.link.rewrite(at, self.frame.bytes());
                self.link.rewrite(at, honest.bytes());
            }
            self.link.poll();
        }
        log::info!("{sent} frames were handed in and rewritten");
    }

    fn obey(&mut self, request: &[u8]) {
        if request.get(23) == Some(&visit::TCP) {
            if self.flood.is_none()
                && let Some(answer) = self.visit.receive(self.config, request)
            {
                self.send(&answer);
            }
            return;
        }
        if request.len() < 43 {
            return;
        }
        let parties = self.parties(request);
        let mut words = text(request).split(' ');
        let command = words.next().unwrap_or_default();
        let argument = words.next().unwrap_or_default();
        let count = argument.parse().unwrap_or(1);
        match command {
            "visit" => {
                self.visit = visit::Visit::default();
                let frame = self.visit.begin(self.config);
                self.send(&frame);
            }
            "forge" => self.forge(count, &parties),
            "honest" => self.honest(count, &parties),
            "rewrite" => self.rewrite(count, &parties),
            "flood" => {
                self.flood = Flood::new(argument, &parties, &mut self.frame);
                if argument == "stall" {
                    let turns = words.next().and_then(|word| word.parse().ok());
                    self.stall = turns.unwrap_or(0);
                }
                log::info!("flood of {argument}: {}", self.flood.is_some());
            }
            "stop" => {
                self.flood = None;
                log::info!("stopped");
            }
            "stall" => {
                log::info!("stalled");
                self.stalled = true;
            }
            "fault" => panic!("as I was told"),
            "crash" => {
                if let Some(crashes) = crashes_left() {
                    crashes.store64(0, count as u64, Relaxed);
                }
                panic!("as I was told");
            }
            "break" => {
                self.link.break_protocol();
                let state = if self.link.channel.is_up() {
                    "still up"
                } else {
                    "down"
                };
                log::info!("the channel is {state}");
            }
            _ => {}
        }
    }
}

impl Handler for Rogue {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        let mut buffer = [0; 2048];
        if self.stalled {
            return Ok(());
        }
        self.link.channel.wake();
        loop {
            self.link.poll();
            while self.stall == 0
                && let Ok(Some(frame)) = self.link.channel.receive(&mut buffer)
            {
                self.obey(&buffer[..frame.length]);
                if self.stalled {
                    return Ok(());
                }
            }
            self.link.publish();
            if let Some(flood) = &self.flood {
                flood.once(&mut self.link, &self.frame);
                if self.stall > 0 {
                    self.stall -= 1;
                    if self.stall == 0 {
                        log::info!("takes frames again");
                    }
                }
            } else if self.link.channel.sleep(false) {
                return Ok(());
            }
        }
    }
}
