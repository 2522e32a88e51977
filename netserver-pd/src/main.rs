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
use segue_fault_points::{Point, reached};
use segue_frame_channel::config::ServerTable;
use segue_igb_driver::vf::Layout;
use segue_netserver_core::Server;
use segue_netserver_core::directory::Applications;
use segue_netserver_core::nic::Nic;
use segue_netserver_core::server::ChannelRegions;
use segue_netserver_core::watch::{Action, Sight, Watch};
use segue_portmap_core::{AddressReader, PortReader};
use segue_status::network::{self, NetworkStatus, ServerCounter};
use segue_timer_client::Timeout;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, IrqAckError, channel, private_region_at,
    protection_domain, region, region_at, var,
};

/// Channels of a protection domain.
const CHANNELS: usize = 64;

/// At most one line a second says that an interrupt was lost.
const LOST_LINE_MICROSECONDS: u64 = 1_000_000;

struct NetworkServer {
    server: Box<Server>,
    card: Card,
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
    watch: Watch,
    /// Whether the start of the function has failed and was reported.
    has_failed: bool,
    /// When a lost interrupt may be reported again, in microseconds.
    lost_line_at: u64,
}

#[protection_domain(heap_size = 0x5_0000)]
fn init() -> NetworkServer {
    // Only in the test programs that are built from this source (tests/pds/fragile-netserver).
    #[cfg(segue_fragile)]
    match env!("CARGO_BIN_NAME") {
        "segue-netserver-panics" => panic!("asked to fault"),
        "segue-netserver-loops" => loop {
            core::hint::spin_loop();
        },
        _ => {}
    }
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
    let Some(memory) = memory.part(0, layout.end) else {
        panic!(
            "the region netserver_dma needs {:#x} bytes for the card's rings, and more for headers",
            layout.end
        );
    };
    // First the function is brought to rest: a predecessor may have left it at work, reading
    // the applications' frames and writing into this memory. Only then may applications be
    // told that they can use the buffers again, and may the rest of the memory be borrowed.
    let card = Card::take_over(region!(vf_registers, 0x4000), memory);
    let card = card.unwrap_or_else(|error| panic!("{error}"));
    reached(Point::NetserverCardTakenOver);
    let headers = private_region_at!(header_address, header_bytes as u64);

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
    let timer = channel!(timer_channel);
    let mut server = NetworkServer {
        server,
        card,
        status,
        clock,
        applications,
        by_channel,
        interrupts: [channel!(vf_irq), channel!(vf_transmit_irq)],
        igb_pf: channel!(igb_pf_channel),
        timer,
        timeout: Timeout::new(timer),
        portmap: channel!(portmap_channel),
        watch: Watch::default(),
        has_failed: false,
        lost_line_at: 0,
    };
    // igb-pf may have said long ago that the function is enabled.
    if server.card.function().is_ready() {
        server.start_card();
    } else {
        log::info!(
            "waiting for the virtual function; applications: {}",
            table.applications().len()
        );
        server.watch.begin_probing(clock.now_microseconds());
    }
    // Tells the applications that their channels are open.
    server.run(0);
    reached(Point::NetserverChannelsTold);
    // Nobody is cut off any more.
    server.portmap.notify();
    server
}

impl NetworkServer {
    /// The application whose signal has come, if nothing else has, as a set.
    #[inline]
    fn only_application(&self, channels: ChannelSet) -> Option<Applications> {
        let channel = channels.only()?;
        self.by_channel[channel.index()].map(|index| 1 << index)
    }

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
        if self.watch.is_slow() && self.card.function().is_running() {
            self.watch.begin(self.clock.now_microseconds());
        }
        self.set_timer();
    }

    /// Has the timer notify the server in time for what comes first.
    fn set_timer(&mut self) {
        let wanted = [self.watch.at(), self.server.resume_at()];
        let next = wanted.into_iter().flatten().min();
        self.timeout.set(next, &self.clock);
    }

    /// Looks at a card that may have something to say without having been heard.
    fn look_at_card(&mut self) {
        let now = self.clock.now_microseconds();
        if self.watch.at().is_none_or(|at| now < at) {
            return;
        }
        let done = self.card.done();
        let is_under_way = self.card.outstanding() > 0;
        let function = self.card.function();
        let is_running = function.is_running();
        let sight = Sight {
            is_running,
            is_ready: !is_running && function.is_ready(),
            is_intact: function.is_intact(),
            is_stalled: function.stalled(now),
            is_under_way,
            done,
            is_untold: function.has_work(),
        };
        match self.watch.look(now, &sight) {
            Action::Nothing => {}
            Action::Start => self.start_card(),
            Action::Nudge => self.card.function().nudge(),
            Action::StartAnew => self.start_card_anew(),
            Action::Reset => {
                log::error!("the network card still sends no frame: its function is reset");
                self.status.add(ServerCounter::DeviceRestarts, 1);
                // igb-pf enables it again, and says so.
                self.card.function().reset();
                self.watch.begin_probing(now);
            }
        }
        if self.watch.take_lost() {
            self.status.add(ServerCounter::LostInterrupts, 1);
            if now >= self.lost_line_at {
                self.lost_line_at = now + LOST_LINE_MICROSECONDS;
                log::warn!("an interrupt of the network card was lost; its frames were found");
            }
        }
    }

    /// Starts the function, which must be at rest.
    fn start_card(&mut self) {
        // What a stopped function has not sent is its own no more; who sent it by TCP will see.
        let server = &mut self.server;
        let function = self.card.function();
        function.take_outstanding(|token| server.complete(token));
        reached(Point::NetserverCardEmptied);
        match function.start() {
            Ok(()) => {
                self.has_failed = false;
                reached(Point::NetserverCardStarted);
                log::info!(
                    "the virtual function is running; frames of a predecessor: {}",
                    self.card.left_behind()
                );
                self.watch.begin(self.clock.now_microseconds());
            }
            // It is tried again and again.
            Err(error) if !core::mem::replace(&mut self.has_failed, true) => log::error!("{error}"),
            Err(_) => {}
        }
    }

    /// Starts a function anew that was reset by others, or does not move.
    fn start_card_anew(&mut self) {
        log::error!("the network card was reset, or sends no frame: it is started anew");
        self.status.add(ServerCounter::DeviceRestarts, 1);
        let function = self.card.function();
        if let Err(error) = function.stop() {
            // It may still be at work: nobody is told that a frame is done.
            log::error!("{error}");
            function.reset();
            return self.watch.begin_probing(self.clock.now_microseconds());
        }
        self.start_card();
    }
}

impl Handler for NetworkServer {
    type Error = IrqAckError;

    fn is_ready(&self) -> bool {
        #[cfg(segue_fragile)]
        if env!("CARGO_BIN_NAME") == "segue-netserver-waits" {
            return false;
        }
        self.card.is_running()
    }

    fn is_idle(&mut self, channels: ChannelSet) -> bool {
        self.only_application(channels)
            .is_some_and(|woken| self.server.is_idle(woken))
    }

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        if let Some(woken) = self.only_application(channels) {
            self.run(woken);
            return Ok(());
        }
        for interrupt in self.interrupts {
            if channels.contains(interrupt) {
                self.status.add(ServerCounter::Interrupts, 1);
                self.watch.note_interrupt();
                interrupt.irq_ack()?;
                reached(Point::NetserverInterruptAcknowledged);
            }
        }
        if channels.contains(self.igb_pf) {
            // It is enabled, from now on or still.
            if !self.card.function().is_running() {
                self.start_card();
            } else if !self.card.function().is_intact() {
                self.start_card_anew();
            } else {
                self.card.function().nudge();
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
