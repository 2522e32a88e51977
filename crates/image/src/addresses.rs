//! Addresses of applications as the report and the picture show them.

use segue_frame_channel::config::{ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT};

use crate::model::{AddressPool, FrameChannel, System};
use crate::number::{show_ipv4, show_ipv6, show_mac};

/// An application's addresses, a line each, for its box in the picture.
pub(crate) fn lines(channel: &FrameChannel, system: &System) -> Vec<String> {
    if let Some(pool) = pool(channel, system) {
        return vec![format!("address of {}", pool.name)];
    }
    let mut lines = Vec::new();
    if channel.flags & ADDRESS_OWN != 0 {
        lines.push(show_mac(channel.addresses.mac));
    }
    lines.extend([ipv4(channel), ipv6(&channel.addresses)]);
    lines.retain(|line| !line.is_empty());
    lines
}

/// Rows of application, whose the addresses are, MAC, IPv4, gateway, IPv6, gateway.
pub(crate) fn rows(system: &System) -> Vec<Vec<String>> {
    let name = |index: usize| {
        let domain = system.protection_domains.get(index);
        domain.map_or("?", |domain| domain.name.as_str())
    };
    let row = |channel: &FrameChannel| {
        let name = name(channel.client.0).to_string();
        if let Some(pool) = pool(channel, system) {
            let from = format!("out of {}", pool.name);
            return [vec![name, from], vec![String::new(); 5]].concat();
        }
        let whose = match channel.flags {
            flags if flags & ADDRESS_OWN != 0 => "its own",
            flags if flags & DHCP_CLIENT != 0 => "shared, asks for it",
            _ => "shared",
        };
        let addresses = &channel.addresses;
        vec![
            name,
            whose.into(),
            show_mac(addresses.mac),
            ipv4(channel),
            gateway(addresses),
            ipv6(addresses),
            ipv6_gateway(addresses),
        ]
    };
    system.frame_channels.iter().map(row).collect()
}

/// Rows of pool, members, users, and the addresses of the first member.
pub(crate) fn pool_rows(system: &System) -> Vec<Vec<String>> {
    let pools = system.address_pools.iter().enumerate();
    let row = |(index, pool): (usize, &AddressPool)| {
        let users = system.frame_channels.iter();
        let users = users.filter(|channel| channel.address_pool == Some(index));
        let users = users.count();
        vec![
            pool.name.clone(),
            pool.count.to_string(),
            match users > usize::from(pool.count) {
                true => format!("{users}: some will wait"),
                false => users.to_string(),
            },
            show_mac(pool.first.mac),
            static_ipv4(&pool.first),
            gateway(&pool.first),
            ipv6(&pool.first),
            ipv6_gateway(&pool.first),
        ]
    };
    pools.map(row).collect()
}

fn pool<'s>(channel: &FrameChannel, system: &'s System) -> Option<&'s AddressPool> {
    system.address_pools.get(channel.address_pool?)
}

fn ipv4(channel: &FrameChannel) -> String {
    match channel.flags & ADDRESS_LEASED {
        0 => static_ipv4(&channel.addresses),
        _ => "IPv4 by DHCP".into(),
    }
}

fn static_ipv4(addresses: &Addresses) -> String {
    match addresses.ipv4 {
        [0, 0, 0, 0] => String::new(),
        ipv4 => format!("{}/{}", show_ipv4(ipv4), addresses.ipv4_prefix_length),
    }
}

fn gateway(addresses: &Addresses) -> String {
    match addresses.gateway {
        [0, 0, 0, 0] => String::new(),
        ipv4 => show_ipv4(ipv4),
    }
}

fn ipv6(addresses: &Addresses) -> String {
    match u128::from_be_bytes(addresses.ipv6) {
        0 => String::new(),
        _ => format!(
            "{}/{}",
            show_ipv6(addresses.ipv6),
            addresses.ipv6_prefix_length
        ),
    }
}

fn ipv6_gateway(addresses: &Addresses) -> String {
    match u128::from_be_bytes(addresses.ipv6_gateway) {
        0 => String::new(),
        _ => show_ipv6(addresses.ipv6_gateway),
    }
}
