//! Addresses that come and go.

use crate::{Portmap, addresses};
use core::net::{Ipv4Addr, Ipv6Addr};
use segue_frame_channel::config::{ADDRESS_LEASED, Addresses, ClientConfig};
use segue_libos::Stack;
use segue_portmap_core::PortError;
use sel4_microkit::{Channel, ChannelSet};

/// What keeps a stack's addresses as the port map says they are.
pub struct Network {
    /// `None` if there is none in this system.
    portmap: Option<Portmap>,
    /// Says that the function of an application that is always direct works.
    owner: Option<Channel>,
    /// Notified by the port map when it is worth asking again.
    channel: Channel,
    /// Whether the port map is asked at all.
    is_leased: bool,
    /// What is known without asking.
    known: Addresses,
    current: Addresses,
    /// What was said on the console.
    said: Option<Addresses>,
}

impl Network {
    pub(crate) fn new(config: &ClientConfig, portmap: Portmap) -> Self {
        Self {
            portmap: Some(portmap),
            owner: None,
            channel: Channel::new(config.portmap_channel as usize),
            is_leased: config.flags & ADDRESS_LEASED != 0,
            known: config.addresses,
            current: config.addresses,
            said: None,
        }
    }

    /// For an application that is always direct: its addresses do not change, and `owner` says
    /// that its function works.
    pub(crate) fn of_function(config: &ClientConfig, owner: u32) -> Self {
        let owner = Channel::new(owner as usize);
        Self {
            portmap: None,
            owner: Some(owner),
            channel: owner,
            is_leased: false,
            known: config.addresses,
            current: config.addresses,
            said: None,
        }
    }

    /// The addresses as they are now.
    pub(crate) fn ask(&mut self) -> Addresses {
        let Some(portmap) = self.portmap.as_ref().filter(|_| self.is_leased) else {
            return self.known;
        };
        self.current = match portmap.addresses() {
            Ok(addresses) => addresses,
            Err(PortError::NoAddress) => self.known,
            Err(error) => {
                // What it has it keeps: its next port map will know.
                log::error!("the port map does not tell this program's addresses: {error}");
                self.current
            }
        };
        if self.said.replace(self.current) != Some(self.current) {
            say(&self.current, &self.known);
        }
        self.current
    }

    /// To be called with each notification: has the stack follow when its addresses have changed,
    /// or when its function works.
    pub fn notified(&mut self, channels: ChannelSet, stack: &mut Stack) {
        if let Some(owner) = self.owner
            && channels.contains(owner)
            && let Err(error) = stack.start_function()
        {
            log::error!("the virtual function cannot be used: {error}");
        }
        if !self.is_leased || !channels.contains(self.channel) {
            return;
        }
        let before = self.current;
        let now = self.ask();
        if now != before {
            stack.set_station(now.mac, &addresses(&now));
        }
    }
}

/// Says on the console which addresses were leased.
fn say(addresses: &Addresses, known: &Addresses) {
    let ipv4 = Ipv4Addr::from(addresses.ipv4);
    if addresses == known {
        log::info!("no address yet: the port map will say when there is one");
    } else if addresses.ipv6 == known.ipv6 {
        log::info!("the address is {ipv4}/{}", addresses.ipv4_prefix_length);
    } else {
        let ipv6 = Ipv6Addr::from(addresses.ipv6);
        log::info!(
            "the addresses are {ipv4}/{} and {ipv6}/{}",
            addresses.ipv4_prefix_length,
            addresses.ipv6_prefix_length
        );
    }
}
