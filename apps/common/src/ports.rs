//! Ports, asked for at the port map.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use segue_fault_points::{Point, reached};
use segue_frame_channel::config::Addresses;
use segue_libos::{BindError, Duration, PortAuthority, Protocol};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{self as portmap, Families, PortClient, PortError, SharedAddress};
use sel4_microkit::{Channel, MessageInfo, get_mr, set_mr};

/// The port map, at the other end of a channel. Clones share it.
#[derive(Clone)]
pub struct Portmap {
    client: Rc<RefCell<PortClient<Call>>>,
}

type Call = Box<dyn FnMut(Message) -> Message>;

impl Portmap {
    /// Asks over this channel. What a predecessor of this program has left is
    /// given back.
    pub fn new(channel: u32) -> Self {
        let channel = Channel::new(channel as usize);
        let call: Call = Box::new(move |message: Message| {
            let registers = message.sent();
            for (index, value) in registers.iter().enumerate() {
                set_mr(index, *value);
            }
            let answer = channel.pp_call(MessageInfo::new(message.label, registers.len()));
            reached(Point::ApplicationPortsAnswered);
            Message::read(answer.label(), answer.count(), get_mr)
        });
        let mut client = PortClient::new(call);
        match client.release_all() {
            Ok(0) => {}
            Ok(count) => log::info!("{count} ports of a predecessor were given back"),
            Err(error) => log::error!("the port map refuses to take ports back: {error}"),
        }
        Self {
            client: Rc::new(RefCell::new(client)),
        }
    }

    /// The addresses of this program.
    ///
    /// # Errors
    /// [`PortError::NoAddress`] if there are none yet: then the channel is notified later.
    pub fn addresses(&self) -> Result<Addresses, PortError> {
        self.client.borrow_mut().addresses()
    }

    /// Says which IPv4 address the server has: for a DHCP client.
    ///
    /// # Errors
    /// [`PortError::NotAllowed`] for anybody else, [`PortError::InvalidAddress`],
    /// [`PortError::AddressInUse`].
    pub fn set_shared_ipv4(&self, shared: Option<SharedAddress>) -> Result<(), PortError> {
        self.client.borrow_mut().set_shared_ipv4(shared)
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
        PortError::InvalidRequest
        | PortError::NoAnswer
        | PortError::NoAddress
        | PortError::InvalidAddress => BindError::Authority,
    }
}

/// A stack listens and connects with both versions of IP.
impl PortAuthority for Portmap {
    fn bind(&mut self, of: Protocol, port: u16) -> Result<(), BindError> {
        let mut client = self.client.borrow_mut();
        client
            .bind(protocol(of), port, Families::Both)
            .map_err(error)
    }

    fn bind_any(&mut self, of: Protocol) -> Result<u16, BindError> {
        let mut client = self.client.borrow_mut();
        client.bind_any(protocol(of), Families::Both).map_err(error)
    }

    fn release(&mut self, of: Protocol, port: u16) {
        let mut client = self.client.borrow_mut();
        if let Err(error) = client.release(protocol(of), port, Families::Both) {
            log::error!("the port map refuses to take port {port} back: {error}");
        }
    }

    fn hold(&mut self, of: Protocol, port: u16, duration: Duration) {
        let milliseconds = u32::try_from(duration.total_millis()).unwrap_or(u32::MAX);
        let mut client = self.client.borrow_mut();
        let answer = client.hold(protocol(of), port, Families::Both, milliseconds);
        if let Err(error) = answer {
            log::error!("the port map refuses to hold port {port}: {error}");
        }
    }
}
