//! The protection domain that owns the port table and the address leases.
//!
//! Applications call it to bind and release ports; the network server reads
//! the table. Who is calling is told by the channel, which the image builder
//! has tied to an owner. Never: sees a frame, calls or waits for anybody.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_portmap_core::config::OwnerTable;
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{PortTable, Service, TABLE_SIZE};
use sel4_microkit::{
    Channel, Handler, Infallible, MessageInfo, get_mr, protection_domain, region, set_mr, var,
};

struct PortMap {
    service: Service,
}

#[protection_domain]
fn init() -> PortMap {
    let owners = var!(port_owners: OwnerTable = OwnerTable::EMPTY);
    let Some(table) = PortTable::new(region!(port_table, TABLE_SIZE)) else {
        panic!("the region port_table must have {TABLE_SIZE:#x} bytes");
    };
    log::info!("applications that may have ports: {}", owners.owners().len());
    PortMap {
        service: Service::new(table, *owners),
    }
}

impl Handler for PortMap {
    type Error = Infallible;

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
