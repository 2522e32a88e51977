//! The protection domain that asks a DHCP server for the address that applications share.
//!
//! It has a frame channel of its own behind the server's MAC address, and tells the port map what
//! it has found out; applications hear of it from there. What it believes is decided in
//! `segue-dhcp-core`. Never: has a connection, serves anybody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use core::net::Ipv4Addr;
use segue_application::{Portmap, Timeout, seed};
use segue_dhcp_core::{Account, Client, Event, Lease};
use segue_fault_points::{Point, reached};
use segue_frame_channel::config::ClientConfig;
use segue_frame_channel::{ClientChannel, FrameOffload};
use segue_libos::{PortAuthority, Protocol};
use segue_portmap_core::{PortError, SharedAddress};
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, channel, private_region_at, protection_domain,
    region, region_at, var,
};

/// The port of DHCP clients.
const PORT: u16 = 68;
/// Largest frame.
const FRAME: usize = 2048;
/// At most one line about refused answers in so many microseconds.
const QUIET: u64 = 1_000_000;

struct Dhcp {
    channel: ClientChannel,
    server: Channel,
    client: Client,
    portmap: Portmap,
    clock: Clock,
    timeout: Timeout,
    /// Signalled by the port map when it knows another address, or has been started anew.
    portmap_channel: Channel,
    /// What the port map must know.
    account: Account,
    /// When the last answer was refused aloud, and how many in silence since.
    refused: Option<(u64, u32)>,
}

#[protection_domain(heap_size = 0x4_0000)]
fn init() -> Dhcp {
    let clock = Clock::new(region!(tsc_frequency));
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let channel = ClientChannel::new(
        region_at!(config.client_region, config.client_region_size),
        region_at!(config.server_region, config.server_region_size),
        private_region_at!(config.pool, config.pool_size),
        config.transmit_entries,
        config.receive_entries,
    );
    let channel = match channel {
        Ok(channel) => channel,
        Err(error) => panic!(
            "the frame channel to {} cannot be used: {error}",
            config.server()
        ),
    };
    let mut portmap = Portmap::new(config.portmap_channel);
    if let Err(error) = portmap.bind(Protocol::Udp, PORT) {
        log::error!("cannot have port {PORT} (UDP), so no server will be heard: {error}");
    }
    let [first, second] = seed(&clock);
    let now = clock.now_microseconds();
    log::info!("asking for an address");
    let mut dhcp = Dhcp {
        channel,
        server: Channel::new(config.channel as usize),
        client: Client::new(config.addresses.mac, first ^ second, now),
        portmap,
        clock,
        timeout: Timeout::new(channel!(timer_channel)),
        portmap_channel: Channel::new(config.portmap_channel as usize),
        account: Account::new(),
        refused: None,
    };
    dhcp.work();
    dhcp
}

impl Dhcp {
    fn work(&mut self) {
        let mut buffer = [0; FRAME];
        self.channel.wake();
        loop {
            if let Err(violation) = self.channel.poll() {
                log::error!("the network server breaks the frame channel's protocol: {violation}");
            }
            let now = self.clock.now_microseconds();
            self.client.set_up(self.channel.is_up());
            loop {
                match self.channel.receive(&mut buffer) {
                    Ok(Some(frame)) => self.client.receive(&buffer[..frame.length], now),
                    Ok(None) => break,
                    Err(violation) => {
                        log::error!(
                            "the network server breaks the frame channel's protocol: {violation}"
                        );
                        break;
                    }
                }
            }
            self.client.poll(now);
            reached(Point::DhcpPolled);
            while let Some(event) = self.client.next_event() {
                self.event(event, now);
            }
            while let Some(frame) = self.client.next_frame() {
                // One for which there is no room is lost, and sent again later.
                if let Some(mut room) = self.channel.reserve(frame.len())
                    && let Some(bytes) = room.bytes().get_mut(..frame.len())
                {
                    bytes.copy_from_slice(&frame);
                    reached(Point::DhcpFrameBuilt);
                    room.submit(frame.len(), FrameOffload::default());
                }
            }
            if self.channel.publish() {
                reached(Point::DhcpServerDue);
                self.server.notify();
            }
            if self.channel.sleep(false) {
                break;
            }
        }
        // Nothing can be sent before the channel is up, and then there is a notification.
        if self.channel.is_up() {
            let next = self.client.next_deadline(self.clock.now_microseconds());
            self.timeout.set(next, &self.clock);
        }
    }

    fn event(&mut self, event: Event, now: u64) {
        match event {
            Event::Leased(lease) => self.leased(lease, now),
            Event::Lost => {
                log::warn!("the address is lost: asking for another");
                self.account.set(None, now);
                reached(Point::DhcpLeaseForgotten);
                self.tell(None);
            }
            Event::Refused(refusal) => {
                if let Some((at, silent)) = &mut self.refused
                    && now < *at + QUIET
                {
                    *silent += 1;
                    return;
                }
                match self.refused.replace((now, 0)) {
                    Some((_, silent)) if silent > 0 => {
                        log::warn!("{refusal} ({silent} more since the last such line)");
                    }
                    _ => log::warn!("{refusal}"),
                }
            }
        }
    }

    fn leased(&mut self, lease: Lease, now: u64) {
        let before = self.account.set(Some(lease), now);
        if !self.tell(Some(lease)) {
            return;
        }
        reached(Point::DhcpLeaseTold);
        let what = match before {
            Some(before) if before.address == lease.address => "the lease is renewed",
            _ => "leased",
        };
        log::info!(
            "{what}: {}/{} for {} s from {}",
            Ipv4Addr::from(lease.address),
            lease.prefix_length,
            lease.seconds,
            Ipv4Addr::from(lease.server)
        );
    }

    /// Tells the port map; says whether it has taken it.
    fn tell(&mut self, lease: Option<Lease>) -> bool {
        let shared = lease.map(|lease| SharedAddress {
            address: lease.address,
            prefix_length: lease.prefix_length,
            gateway: lease.router.unwrap_or_default(),
            seconds: lease.seconds,
        });
        match (self.portmap.set_shared_ipv4(shared), lease) {
            (Ok(()), _) => return true,
            (Err(error), Some(lease)) => {
                let address = Ipv4Addr::from(lease.address);
                log::error!("the port map refuses {address}: {error}");
                if error != PortError::NoAnswer {
                    // Nor will it take it later.
                    self.account = Account::new();
                }
            }
            (Err(error), None) => {
                log::error!("the port map does not take the address away: {error}");
            }
        }
        false
    }

    /// The port map has something to say: perhaps it knows less than it was told.
    fn compare(&mut self) {
        let known = match self.portmap.addresses() {
            Ok(addresses) => Some(addresses.ipv4),
            Err(PortError::NoAddress) => None,
            Err(_) => return,
        };
        let now = self.clock.now_microseconds();
        if let Some(lease) = self.account.correction(known, now)
            && self.tell(lease)
        {
            log::info!("the port map was told once more what the address is");
        }
    }
}

impl Handler for Dhcp {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        if channels.contains(self.portmap_channel) {
            self.compare();
        }
        self.work();
        Ok(())
    }
}
