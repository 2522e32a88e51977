//! Test: forges frames, then breaks the protocol of its frame channel.
//!
//! It owns UDP port 9 of the address that it shares with the HTTP application.
//! What it does is told by datagrams to that port: "visit" makes it ask the other
//! application for a file; "forge" makes it send each kind of forged frame, and an
//! honest answer after them; "break" makes it write nonsense into its channel;
//! "fault" makes it fault.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod forgery;
mod visit;

use core::sync::atomic::Ordering;

use segue_frame_channel::config::ClientConfig;
use segue_frame_channel::{ClientChannel, FrameOffload};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{Families, PortClient, Protocol};
use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, get_mr, private_region_at,
    protection_domain, region_at, set_mr, var,
};

/// How often each forgery is tried.
const ATTEMPTS: usize = 100;
const PORT: u16 = 9;
/// The other application's port.
const HTTP: u16 = 80;
/// The transmit producer index in the region that the application writes.
const PRODUCER: usize = 0x40;

struct Rogue {
    channel: ClientChannel,
    /// What only the protocol's own code should write.
    region: Region,
    config: &'static ClientConfig,
    server: Channel,
    visit: visit::Visit,
}

#[protection_domain(heap_size = 0x10000)]
fn init() -> Rogue {
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let region = region_at!(config.client_region, config.client_region_size);
    let channel = ClientChannel::new(
        region,
        region_at!(config.server_region, config.server_region_size),
        private_region_at!(config.pool, config.pool_size),
        config.transmit_entries,
        config.receive_entries,
    )
    .expect("the image builder has described the channel");
    let mut ports = port_client(config);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        match ports.bind(protocol, PORT, Families::Both) {
            Ok(()) => log::info!("port {PORT} is mine"),
            Err(error) => log::error!("port {PORT}: {error}"),
        }
    }
    Rogue {
        channel,
        region,
        config,
        server: Channel::new(config.channel as usize),
        visit: visit::Visit::default(),
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

impl Rogue {
    fn poll(&mut self) {
        if let Err(violation) = self.channel.poll() {
            log::error!("the server broke the protocol: {violation}");
        }
    }

    /// Sends a frame at once. The server has the higher priority, so it is done
    /// with it when this returns.
    fn send(&mut self, frame: &[u8]) -> bool {
        self.poll();
        let Some(mut room) = self.channel.reserve(frame.len()) else {
            return false;
        };
        room.bytes().copy_from_slice(frame);
        room.submit(frame.len(), offload(frame));
        self.publish();
        true
    }

    fn publish(&mut self) {
        if self.channel.publish() {
            self.server.notify();
        }
    }

    fn obey(&mut self, request: &[u8]) {
        if request.get(23) == Some(&visit::TCP) {
            if let Some(answer) = self.visit.receive(self.config, request) {
                self.send(&answer);
            }
            return;
        }
        let command = request.get(42..).unwrap_or_default();
        if command.starts_with(b"visit") {
            self.visit = visit::Visit::default();
            let frame = self.visit.begin(self.config);
            self.send(&frame);
        } else if command.starts_with(b"forge") {
            grab_port(self.config);
            let mut sent = 0;
            for kind in forgery::Kind::ALL {
                for _ in 0..ATTEMPTS {
                    let frame = forgery::forge(kind, self.config, request);
                    sent += usize::from(self.send(&frame));
                }
            }
            self.poll();
            let left = self.channel.unconfirmed();
            log::info!("{sent} forged frames were handed in, {left} are not confirmed");
            self.send(&forgery::honest(self.config, request));
        } else if command.starts_with(b"fault") {
            panic!("as I was told");
        } else if command.starts_with(b"break") {
            self.region
                .store32(PRODUCER, u32::MAX / 2, Ordering::Release);
            self.server.notify();
            self.poll();
            let state = if self.channel.is_up() {
                "still up"
            } else {
                "down"
            };
            log::info!("the channel is {state}");
        }
    }
}

impl Handler for Rogue {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        let mut buffer = [0; 2048];
        self.channel.wake();
        loop {
            self.poll();
            while let Ok(Some(frame)) = self.channel.receive(&mut buffer) {
                self.obey(&buffer[..frame.length]);
            }
            self.publish();
            if self.channel.sleep(false) {
                return Ok(());
            }
        }
    }
}
