//! The network server protection domain.
//!
//! Relays frames between one virtual function of the network card and the
//! applications' frame channels. What it decides is in `segue-netserver-core`.
//! Never: holds state that a connection needs, waits for an application.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod card;

use alloc::boxed::Box;
use alloc::vec::Vec;
use card::{CONFIGURATION, Card};
use segue_device::DmaMemory;
use segue_director_core::board::{BOARD_SIZE, Board};
use segue_frame_channel::config::ServerTable;
use segue_igb_driver::vf::{Layout, VirtualFunction};
use segue_netserver_core::Server;
use segue_netserver_core::directory::Applications;
use segue_netserver_core::nic::Nic;
use segue_netserver_core::server::ChannelRegions;
use segue_portmap_core::{AddressReader, PortReader};
use segue_shared_memory::Region;
use segue_status::network::{self, NetworkStatus, ServerCounter};
use segue_timer_client::Timeout;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, IrqAckError, channel, private_region_at,
    protection_domain, region, region_at, var,
};

/// Channels of a protection domain.
const CHANNELS: usize = 64;

/// How often a card that holds frames is looked at: twice, before it counts as
/// stalled, the driver's two seconds apart.
const WATCH_MICROSECONDS: u64 = 2_100_000;

struct NetworkServer {
    server: Box<Server>,
    card: Card,
    registers: Region,
    memory: Region,
    status: NetworkStatus,
    clock: Clock,
    /// Channels to the applications, by index.
    applications: Vec<Channel>,
    /// The application on each channel.
    by_channel: [Option<u8>; CHANNELS],
    /// Interrupts for received and for transmitted frames.
    interrupts: [Channel; 2],
    /// Says that the virtual function is enabled.
    igb_pf: Channel,
    timer: Channel,
    timeout: Timeout,
    /// Takes the ports of those that are cut off.
    portmap: Channel,
    /// When the card is to be looked at, in microseconds.
    watch_at: Option<u64>,
}

#[protection_domain(heap_size = 0x4_0000)]
fn init() -> NetworkServer {
    let table = var!(frame_channels: ServerTable = ServerTable::EMPTY);
    let clock = Clock::new(region!(tsc_frequency, 0x1000));
    let port_table = region!(port_table, segue_portmap_core::REGION_SIZE);
    let (Some(ports), leases @ Some(_)) =
        (PortReader::new(port_table), AddressReader::new(port_table))
    else {
        panic!(
            "the region port_table must have {:#x} bytes",
            segue_portmap_core::REGION_SIZE
        );
    };
    let Some(status) = NetworkStatus::new(region!(network_status, network::REGION_SIZE)) else {
        panic!(
            "the region network_status must have {:#x} bytes",
            network::REGION_SIZE
        );
    };
    // The driver's rings and buffers come first, then the copies of headers.
    let memory = region!(dma);
    let layout = Layout::new(&CONFIGURATION).unwrap_or_else(|error| panic!("{error}"));
    let header_bytes = memory.length().saturating_sub(layout.end);
    let header_address = memory.device_address() + layout.end as u64;
    let headers = private_region_at!(header_address, header_bytes as u64);
    let Some(memory) = memory.part(0, layout.end) else {
        panic!(
            "the region netserver_dma needs {:#x} bytes for the card's rings, and more for headers",
            layout.end
        );
    };
    let registers = region!(vf_registers, 0x4000);

    let applications: Vec<_> = table
        .applications()
        .iter()
        .map(|entry| Channel::new(entry.channel as usize))
        .collect();
    let mut by_channel = [None; CHANNELS];
    for (index, channel) in applications.iter().enumerate() {
        by_channel[channel.index()] = Some(index as u8);
    }
    let server = Server::new(table, ports, leases, status, headers, |entry| {
        ChannelRegions {
            client: region_at!(entry.client_region, entry.client_region_size),
            server: region_at!(entry.server_region, entry.server_region_size),
            pool: region_at!(entry.pool, entry.pool_size),
        }
    });
    let mut server = Box::new(server.unwrap_or_else(|error| panic!("{error}")));
    // Without a director nobody is ever in direct mode.
    let board = *var!(director_board: u64 = 0);
    let board = (board != 0).then(|| region_at!(board, BOARD_SIZE as u64));
    if let Some(board) = board.and_then(Board::new) {
        server.set_board(board);
    }
    let card = Card::new(new_function(registers, memory));
    log::info!(
        "waiting for the virtual function; applications: {}",
        table.applications().len()
    );
    let timer = channel!(timer_channel);
    let mut server = NetworkServer {
        server,
        card,
        registers,
        memory,
        status,
        clock,
        applications,
        by_channel,
        interrupts: [channel!(vf_irq), channel!(vf_transmit_irq)],
        igb_pf: channel!(igb_pf_channel),
        timer,
        timeout: Timeout::new(timer),
        portmap: channel!(portmap_channel),
        watch_at: None,
    };
    // Tells the applications that their channels are open.
    server.run(0);
    // Nobody is cut off any more.
    server.portmap.notify();
    server
}

fn new_function(
    registers: Region,
    memory: Region,
) -> VirtualFunction<Region, Region, segue_netserver_core::nic::Token> {
    VirtualFunction::new(registers, memory, CONFIGURATION).unwrap_or_else(|error| panic!("{error}"))
}

impl NetworkServer {
    fn run(&mut self, woken: Applications) {
        let (clock, applications) = (self.clock, &self.applications);
        self.server.run(
            &mut self.card,
            woken,
            || clock.now_microseconds(),
            |index| {
                if let Some(channel) = applications.get(index) {
                    channel.notify();
                }
            },
        );
        if self.server.take_cut_off() {
            self.portmap.notify();
        }
        // Only in the test program that is built from this source (tests/pds/fragile-netserver).
        #[cfg(segue_fragile)]
        if self.status.dropped(network::IngressDrop::EtherType) > 0 {
            panic!("asked to fault");
        }
        self.status
            .set(ServerCounter::DeviceDropped, self.card.dropped());
        if self.card.outstanding() > 0 && self.watch_at.is_none() {
            self.watch();
        }
        self.set_timer();
    }

    /// Has the card looked at later: if it has not moved until then, it never
    /// will by itself.
    fn watch(&mut self) {
        let now = self.clock.now_microseconds();
        self.watch_at = Some(now + WATCH_MICROSECONDS);
        self.card.function().stalled(now);
    }

    /// Has the timer notify the server in time for what comes first.
    fn set_timer(&mut self) {
        let wanted = [self.watch_at, self.server.resume_at()];
        let next = wanted.into_iter().flatten().min();
        self.timeout.set(next, &self.clock);
    }

    fn look_at_card(&mut self) {
        let now = self.clock.now_microseconds();
        if self.watch_at.is_none_or(|at| now < at) {
            return;
        }
        self.watch_at = None;
        if !self.card.function().stalled(now) {
            return;
        }
        log::error!("the network card has not sent a frame for two seconds: it is started anew");
        self.status.add(ServerCounter::DeviceRestarts, 1);
        if let Err(error) = self.card.function().stop() {
            log::error!("{error}");
        }
        let server = &mut self.server;
        self.card
            .function()
            .take_outstanding(|token| server.complete(token));
        // The reset makes igb-pf enable the function again, and say so.
        self.card = Card::new(new_function(self.registers, self.memory));
    }
}

impl Handler for NetworkServer {
    type Error = IrqAckError;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        // First what floods are made of.
        if let Some(channel) = channels.only()
            && let Some(index) = self.by_channel[channel.index()]
        {
            let woken = 1 << index;
            if !self.server.is_idle(woken) {
                self.run(woken);
            }
            return Ok(());
        }
        for interrupt in self.interrupts {
            if channels.contains(interrupt) {
                self.status.add(ServerCounter::Interrupts, 1);
                interrupt.irq_ack()?;
            }
        }
        if channels.contains(self.igb_pf) && !self.card.function().is_running() {
            match self.card.function().start() {
                Ok(()) => log::info!("the virtual function is running"),
                Err(error) => log::error!("{error}"),
            }
        }
        self.timeout.notified(channels);
        if channels.contains(self.timer) {
            self.look_at_card();
        }
        let mut woken: Applications = 0;
        for channel in channels.iter() {
            if let Some(index) = self.by_channel[channel.index()] {
                woken |= 1 << index;
            }
        }
        self.run(woken);
        Ok(())
    }
}
