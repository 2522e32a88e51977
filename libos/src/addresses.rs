//! Addresses that come and go while the stack runs.

use crate::address::Local;
use crate::config::{Addresses, CloseReason};
use crate::connection::Place;
use crate::neighbours;
use crate::stack::Stack;
use crate::vif::Offload;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::iface::Interface;
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Cidr};

/// Gives an interface these addresses, and the routers that go with them, instead
/// of those that it has.
pub fn set_interface(interface: &mut Interface, local: &Local) {
    let ipv4 = local
        .ipv4
        .map(|network| IpCidr::Ipv4(Ipv4Cidr::new(network.address, network.prefix_length)));
    let ipv6 = local
        .ipv6
        .map(|network| IpCidr::Ipv6(Ipv6Cidr::new(network.address, network.prefix_length)));
    let link_local = IpCidr::Ipv6(Ipv6Cidr::new(local.link_local, 64));
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        for address in [ipv4, ipv6, Some(link_local)].into_iter().flatten() {
            // There is room for four.
            let _ = addresses.push(address);
        }
    });
    let routes = interface.routes_mut();
    routes.update(|routes| routes.clear());
    // The table is empty and has room for four.
    if let Some(gateway) = local.ipv4.and_then(|network| network.gateway) {
        let _ = routes.add_default_ipv4_route(gateway);
    }
    if let Some(gateway) = local.ipv6.and_then(|network| network.gateway) {
        let _ = routes.add_default_ipv6_route(gateway);
    }
}

impl Stack {
    /// The addresses it has, beside the link-local one.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            ipv4: self.local.ipv4,
            ipv6: self.local.ipv6,
        }
    }

    /// Takes these addresses instead of those it has.
    ///
    /// Connections with an address that is no longer ours end
    /// ([`CloseReason::AddressLost`]); their peers are not told, since nothing may be
    /// sent from there any more. Listeners and all else stay.
    pub fn set_addresses(&mut self, addresses: &Addresses) {
        self.set_station(self.local.hardware, addresses);
    }

    /// As [`Stack::set_addresses`], with another hardware address (unicast), too.
    pub fn set_station(&mut self, hardware: [u8; 6], addresses: &Addresses) {
        self.local = Local::new(hardware, addresses);
        self.engines.set_addresses(&self.local);
        self.others.set_addresses(&self.local);
        let local = self.local;
        let lost: Vec<Place> = self
            .table
            .iter()
            .filter(|(key, _)| !local.has(key.local))
            .map(|(_, &place)| place)
            .collect();
        for place in lost {
            match place {
                Place::Connection(index) | Place::Opening(index) => {
                    self.end(index, CloseReason::AddressLost);
                }
                Place::Handshake(index) => self.drop_handshake(index),
                Place::TimeWait(index) => self.forget(index),
            }
        }
        self.delayed
            .retain(|(_, segment)| local.has(segment.key.local));
        self.delayed_bytes = self.delayed.iter().map(|(frame, _)| frame.len()).sum();
    }
    /// Tells who wants to take an address of ours that it is ours.
    pub(crate) fn defend(&mut self, address: Ipv6Addr) {
        let told = neighbours::advertise(&self.local.hardware, address);
        let frame = told.frame();
        self.vif.transmit(frame.len(), Offload::default(), |to| {
            to.copy_from_slice(frame)
        });
    }
}
