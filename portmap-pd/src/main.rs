//! The protection domain that owns the port table and the address leases.
//!
//! Applications call it to bind and release ports; the network server reads
//! the table. Who is calling is told by the channel, which the image builder
//! has tied to an owner. Who was stopped after a fault, or cut off by the network
//! server, loses its ports. Never: sees a frame, calls or waits for anybody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_portmap_core::config::OwnerTable;
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{PortTable, REGION_SIZE, Service};
use segue_status::network::{self, ChannelState, NetworkStatus, name_text};
use segue_status::system::{self, State, SystemStatus};
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, get_mr, protection_domain, region,
    set_mr, var,
};

struct PortMap {
    service: Service,
    network: Option<NetworkStatus>,
    system: Option<SystemStatus>,
}

#[protection_domain]
fn init() -> PortMap {
    let owners = var!(port_owners: OwnerTable = OwnerTable::EMPTY);
    let Some(table) = PortTable::new(region!(port_table, REGION_SIZE)) else {
        panic!("the region port_table must have {REGION_SIZE:#x} bytes");
    };
    log::info!(
        "applications that may have ports: {}",
        owners.owners().len()
    );
    PortMap {
        service: Service::new(table, *owners),
        network: NetworkStatus::new(region!(network_status, network::REGION_SIZE)),
        system: SystemStatus::new(region!(system_status, system::REGION_SIZE)),
    }
}

impl Handler for PortMap {
    type Error = Infallible;

    /// The network server has cut somebody off, or a fault was reported.
    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        let (network, system) = (self.network, self.system);
        let is_gone = |name: &str| {
            let cut_off = network.is_some_and(|network| {
                (0..network.count())
                    .filter_map(|index| network.application(index))
                    .filter(|application| application.state() == ChannelState::CutOff)
                    .any(|application| name_text(&application.name()) == name)
            });
            let stopped = system.is_some_and(|system| {
                system
                    .domains()
                    .filter(|domain| domain.state == State::Stopped)
                    .any(|domain| domain.name() == name)
            });
            cut_off || stopped
        };
        self.service.update(is_gone, |name, count| {
            log::info!("{name} is gone: {count} ports are free again");
        });
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
        let answer = self.service.handle(channel.index() as u32, &message);
        for (index, register) in answer.registers.into_iter().enumerate() {
            set_mr(index, register);
        }
        Ok(MessageInfo::new(answer.label, answer.registers.len()))
    }
}
