//! Ports, asked for at the port map.

use segue_libos::{BindError, Duration, PortAuthority, Protocol};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{self as portmap, PortClient, PortError};
use sel4_microkit::{Channel, MessageInfo, get_mr, set_mr};

/// The port map, at the other end of a channel.
pub struct Portmap {
    client: PortClient<Call>,
}

type Call = alloc::boxed::Box<dyn FnMut(Message) -> Message>;

impl Portmap {
    /// Asks over this channel. What a predecessor of this program has left is
    /// given back.
    pub fn new(channel: u32) -> Self {
        let channel = Channel::new(channel as usize);
        let call: Call = alloc::boxed::Box::new(move |message: Message| {
            for (index, value) in message.registers.into_iter().enumerate() {
                set_mr(index, value);
            }
            let answer = channel.pp_call(MessageInfo::new(message.label, message.registers.len()));
            Message {
                label: answer.label(),
                registers: [get_mr(0), get_mr(1), get_mr(2)],
            }
        });
        let mut client = PortClient::new(call);
        match client.release_all() {
            Ok(0) => {}
            Ok(count) => log::info!("{count} ports of a predecessor were given back"),
            Err(error) => log::error!("the port map refuses to take ports back: {error}"),
        }
        Self { client }
    }
}

fn protocol(protocol: Protocol) -> portmap::Protocol {
    match protocol {
        Protocol::Tcp => portmap::Protocol::Tcp,
        Protocol::Udp => portmap::Protocol::Udp,
    }
}

fn error(error: PortError) -> BindError {
    match error {
        PortError::AddressInUse | PortError::NoPortFree => BindError::AddressInUse,
        PortError::NotAllowed | PortError::NotOwner => BindError::NotAllowed,
        PortError::InvalidPort => BindError::Invalid,
        PortError::InvalidRequest | PortError::NoAnswer => BindError::Authority,
    }
}

impl PortAuthority for Portmap {
    fn bind(&mut self, of: Protocol, port: u16) -> Result<(), BindError> {
        self.client.bind(protocol(of), port).map_err(error)
    }

    fn bind_any(&mut self, of: Protocol) -> Result<u16, BindError> {
        self.client.bind_any(protocol(of)).map_err(error)
    }

    fn release(&mut self, of: Protocol, port: u16) {
        if let Err(error) = self.client.release(protocol(of), port) {
            log::error!("the port map refuses to take port {port} back: {error}");
        }
    }

    fn hold(&mut self, _: Protocol, _: u16, _: Duration) {
        // The port map's protocol has no word for it yet.
    }
}
