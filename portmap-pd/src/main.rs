//! The protection domain that owns the port table and the address leases.
//!
//! Applications call it to bind and release ports; the network server reads
//! the table. Who is calling is told by the channel, which the image builder
//! has tied to an owner. Who was stopped after a fault, or cut off by the network
//! server, loses its ports. Never: sees a frame, calls or waits for anybody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use segue_portmap_core::config::OwnerTable;
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{Life, PortTable, REGION_SIZE, Service};
use segue_status::network::{self, ChannelState, NetworkStatus, name_text};
use segue_status::system::{self, SystemStatus};
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, get_mr, protection_domain, region,
    set_mr, var,
};

struct PortMap {
    service: Service,
    owners: &'static OwnerTable,
    /// What is watched of each owner.
    watched: Vec<Watched>,
    network: Option<NetworkStatus>,
    system: Option<SystemStatus>,
}

/// What is watched of an owner.
#[derive(Clone, Copy)]
struct Watched {
    /// Where the status of the system speaks of it.
    place: Option<usize>,
    /// Whether the network server had cut it off when it last said something.
    is_cut_off: bool,
}

#[protection_domain(heap_size = 0x1000)]
fn init() -> PortMap {
    let owners = var!(port_owners: OwnerTable = OwnerTable::EMPTY);
    let Some(table) = PortTable::new(region!(port_table, REGION_SIZE)) else {
        panic!("the region port_table must have {REGION_SIZE:#x} bytes");
    };
    log::info!(
        "applications that may have ports: {}",
        owners.owners().len()
    );
    let system = SystemStatus::new(region!(system_status, system::REGION_SIZE));
    let watched = owners.owners().iter().map(|owner| Watched {
        place: system.and_then(|system| system.find(owner.name())),
        is_cut_off: false,
    });
    PortMap {
        service: Service::new(table, *owners),
        owners,
        watched: watched.collect(),
        network: NetworkStatus::new(region!(network_status, network::REGION_SIZE)),
        system,
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
    fn look_at(&mut self, index: usize) {
        let Some(Watched { place, is_cut_off }) = self.watched.get(index).copied() else {
            return;
        };
        let incarnation = self
            .system
            .zip(place)
            .and_then(|(system, place)| system.incarnation(place));
        let life = Life {
            restarts: incarnation.map_or(0, |incarnation| incarnation.restarts),
            is_gone: is_cut_off || incarnation.is_some_and(|incarnation| !incarnation.is_running),
        };
        if let Some(count) = self.service.note(index, life) {
            let name = self.owners.owners()[index].name();
            log::info!("{name} is gone: {count} ports are free again");
        }
    }
}

impl Handler for PortMap {
    type Error = Infallible;

    /// The network server has cut somebody off, or a fault was reported.
    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        for index in 0..self.watched.len() {
            self.watched[index].is_cut_off = self.is_cut_off(index);
            self.look_at(index);
        }
        Ok(())
    }

    fn protected(
        &mut self,
        channel: Channel,
        call: MessageInfo,
    ) -> Result<MessageInfo, Infallible> {
        let mut registers = [0; 3];
        for (index, register) in registers.iter_mut().enumerate().take(call.count()) {
            *register = get_mr(index);
        }
        let message = Message {
            label: call.label(),
            registers,
        };
        // It may be another incarnation than the last that called, and the signal
        // that says so still on its way.
        if let Some(index) = self.service.caller(channel.index() as u32) {
            self.look_at(index);
        }
        let answer = self.service.handle(channel.index() as u32, &message);
        for (index, register) in answer.registers.into_iter().enumerate() {
            set_mr(index, register);
        }
        Ok(MessageInfo::new(answer.label, answer.registers.len()))
    }
}
