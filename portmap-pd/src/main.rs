//! The protection domain that owns the port table and the address leases.
//!
//! Applications call it to bind and release ports and to ask for their addresses; the
//! network server reads the tables. Who is calling is told by the channel, which the image
//! builder has tied to an owner. Who was stopped after a fault, or cut off by the network
//! server, loses its ports. What it knows lies in regions that outlive it: it may die at any
//! instant, and its successor goes on. Never: sees a frame, calls anybody but the timer, waits for anybody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_fault_points::{Point, reached};
use segue_portmap_core::config::{MAXIMUM_OWNERS, OwnerTable, PoolTable};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{HOLDS_SIZE, Life, REGION_SIZE, Repairs, Returned, Service};
use segue_status::network::{self, ChannelState, NetworkStatus, name_text};
use segue_status::system::{self, SystemStatus};
use segue_timer_client::Timeout;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, MessageInfo, channel, get_mr,
    protection_domain, region, set_mr, var,
};

struct PortMap {
    service: Service,
    owners: &'static OwnerTable,
    /// What is watched of each owner.
    watched: [Watched; MAXIMUM_OWNERS],
    network: Option<NetworkStatus>,
    system: Option<SystemStatus>,
    clock: Clock,
    timeout: Timeout,
    /// Hears of changes of the address table.
    server: Channel,
}

/// Shortest time that the timer is asked for.
const SHORTEST_WAIT_MICROSECONDS: u64 = 1_000;

/// What is watched of an owner.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// Where the status of the system speaks of it.
    place: Option<usize>,
    /// Whether the network server had cut it off when it last said something.
    is_cut_off: bool,
}

#[protection_domain]
fn init() -> PortMap {
    let owners = var!(port_owners: OwnerTable = OwnerTable::EMPTY);
    let pools = var!(address_pools: PoolTable = PoolTable::EMPTY);
    let tables = region!(port_table, REGION_SIZE);
    let holds = region!(port_holds, HOLDS_SIZE);
    let clock = Clock::new(region!(tsc_frequency));
    let now = clock.now_microseconds();
    let Some(service) = Service::new(tables, holds, owners, pools, now) else {
        panic!(
            "the regions port_table and port_holds must have {REGION_SIZE:#x} and {HOLDS_SIZE:#x} bytes"
        );
    };
    log::info!(
        "applications that may have ports: {}",
        owners.owners().len()
    );
    say_repairs(service.repairs());
    let system = SystemStatus::new(region!(system_status, system::REGION_SIZE));
    let mut watched = [Watched::default(); MAXIMUM_OWNERS];
    for (watched, owner) in watched.iter_mut().zip(owners.owners()) {
        watched.place = system.and_then(|system| system.find(owner.name()));
    }
    let mut portmap = PortMap {
        service,
        owners,
        watched,
        network: NetworkStatus::new(region!(network_status, network::REGION_SIZE)),
        system,
        clock,
        timeout: Timeout::not_before(channel!(timer_channel), SHORTEST_WAIT_MICROSECONDS),
        server: channel!(server_channel),
    };
    // What has happened while there was no port map; and whom a predecessor has told of changes
    // is not known, so everybody is told.
    portmap.update();
    portmap
}

/// Says on the console what of a predecessor's remains made no sense.
fn say_repairs(repairs: Repairs) {
    let Repairs {
        ports,
        addresses,
        records,
    } = repairs;
    if repairs != Repairs::default() {
        log::warn!(
            "what a predecessor left made no sense in places and was put right: {ports} ports, the addresses of {addresses} applications, {records} records"
        );
    }
}

/// Says on the console whose ports were taken back.
fn tell(name: &str, returned: Returned) {
    let Returned { free, held } = returned;
    let count = free + held;
    if held == 0 {
        log::info!("{name} is gone: {count} ports were taken back");
    } else {
        log::info!(
            "{name} is gone: {count} ports were taken back, {held} of them stay held for connections in TIME_WAIT"
        );
    }
}

impl PortMap {
    /// Whether the network server has cut an owner off.
    fn is_cut_off(&self, index: usize) -> bool {
        let name = self.owners.owners()[index].name();
        self.network.is_some_and(|network| {
            (0..network.count())
                .filter_map(|index| network.application(index))
                .filter(|application| application.state() == ChannelState::CutOff)
                .any(|application| name_text(&application.name()) == name)
        })
    }

    /// Takes note of what has become of an owner.
    fn look_at(&mut self, index: usize, now: u64) {
        let Watched { place, is_cut_off } = self.watched[index];
        let incarnation = self
            .system
            .zip(place)
            .and_then(|(system, place)| system.incarnation(place));
        let life = Life {
            restarts: incarnation.map_or(0, |incarnation| incarnation.restarts),
            is_gone: is_cut_off || incarnation.is_some_and(|incarnation| !incarnation.is_running),
        };
        if let Some(returned) = self.service.note(index, life, now) {
            tell(self.owners.owners()[index].name(), returned);
        }
    }

    /// Looks at everybody.
    fn update(&mut self) {
        let now = self.clock.now_microseconds();
        for index in 0..self.owners.owners().len() {
            self.watched[index].is_cut_off = self.is_cut_off(index);
            self.look_at(index, now);
        }
        // Else the timer would be asked to call at a time that has passed, for ever.
        self.service.expire(now);
        self.finish();
    }

    /// Tells others of what has changed and sees to it that time does not pass unnoticed.
    fn finish(&mut self) {
        let changes = self.service.take_changes();
        if changes.table {
            self.server.notify();
        }
        reached(Point::PortmapServerTold);
        for (index, entry) in self.owners.owners().iter().enumerate() {
            if changes.owners & 1 << index != 0 {
                let channel = Channel::new(entry.channel as usize);
                if channel.may_notify() {
                    channel.notify();
                }
            }
        }
        self.timeout.set(self.service.next_deadline(), &self.clock);
    }
}

impl Handler for PortMap {
    type Error = Infallible;

    /// The network server has cut somebody off, a fault was reported, or time has passed.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.update();
        Ok(())
    }

    fn protected(
        &mut self,
        channel: Channel,
        call: MessageInfo,
    ) -> Result<MessageInfo, Infallible> {
        let message = Message::read(call.label(), call.count(), get_mr);
        let caller = channel.index() as u32;
        let now = self.clock.now_microseconds();
        // It may be another incarnation than the last that called, and the signal
        // that says so still on its way.
        if let Some(index) = self.service.caller(caller) {
            self.look_at(index, now);
        }
        let answer = self.service.handle(caller, &message, now);
        reached(Point::PortmapAnswered);
        // The timer's answer comes in the same registers.
        self.finish();
        let registers = answer.sent();
        for (index, register) in registers.iter().enumerate() {
            set_mr(index, *register);
        }
        Ok(MessageInfo::new(answer.label, registers.len()))
    }
}
