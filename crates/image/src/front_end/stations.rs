//! Who has which addresses: what is shared, what is one application's own, and what
//! does not go together.

use segue_frame_channel::config::{ADDRESS_LEASED, ADDRESS_OWN, DHCP_CLIENT};

use super::Draft;
use super::addresses::Station;
use super::claims::{Claims, Number, Role};
use super::devices::{model_function, requester_id, virtual_index};
use crate::model::PciFunction;
use crate::number::{show_addresses, show_ipv4, show_ipv6, show_mac};

/// A station, who it is, and where its frames arrive.
pub(super) struct Placed<'a> {
    pub(super) at: usize,
    pub(super) server: usize,
    pub(super) client: usize,
    pub(super) portmap: usize,
    /// The function whose IO address space is used, if it is known.
    pub(super) function: Option<PciFunction>,
    pub(super) station: &'a mut Station,
}

impl Draft<'_, '_> {
    /// Decides who has addresses of its own, and reports what does not go together.
    /// Returns whether all is well.
    pub(super) fn check_stations(&mut self, placed: &mut [Placed<'_>]) -> bool {
        let before = self.diagnostics.errors();
        self.check_functions_of_stations(placed);
        self.check_sharing(placed);
        for index in 0..placed.len() {
            let mac = placed[index].station.addresses.mac;
            let alone = placed
                .iter()
                .enumerate()
                .all(|(other, placed)| other == index || placed.station.addresses.mac != mac);
            let station = &mut placed[index].station;
            if alone && self.function_with_mac(mac).is_none() {
                station.flags |= ADDRESS_OWN;
            }
        }
        self.check_dhcp(placed);
        self.check_pool_users(placed);
        self.check_ranges(placed);
        self.diagnostics.errors() == before
    }

    /// Reports MAC addresses of a function that is not the server's.
    fn check_functions_of_stations(&mut self, placed: &[Placed<'_>]) {
        for placed in placed.iter().filter(|placed| placed.station.pool.is_none()) {
            let mac = placed.station.addresses.mac;
            let (Some(function), Some((of, name))) = (placed.function, self.function_with_mac(mac))
            else {
                continue;
            };
            if of != function {
                let message = format!(
                    "the MAC address {} is that of {name}, but the frames of \"{}\" come through {}: write another",
                    show_mac(mac),
                    self.domain_name(placed.client),
                    self.function_name(function)
                );
                self.diagnostics.error(placed.station.mac_at, message);
            }
        }
    }

    /// Reports stations that share a part of their addresses only.
    fn check_sharing(&mut self, placed: &[Placed<'_>]) {
        for (index, one) in placed.iter().enumerate() {
            if one.station.pool.is_some() {
                continue;
            }
            let conflict = placed[..index]
                .iter()
                .filter(|other| other.station.pool.is_none())
                .find_map(|other| Some((other, self.conflict(one, other)?)));
            if let Some((other, (at, what, here, there))) = conflict {
                let line = self.diagnostics.line(other.at);
                let message = format!(
                    "{what} {here} here and {there} in line {line}: applications share all their addresses or none"
                );
                self.diagnostics.error(at, message);
            }
        }
    }

    /// What two stations have in common although they differ: where, what, and the
    /// two differing things.
    fn conflict(
        &self,
        one: &Placed<'_>,
        other: &Placed<'_>,
    ) -> Option<(usize, String, String, String)> {
        let (here, there) = (&one.station.addresses, &other.station.addresses);
        let leased = |placed: &Placed<'_>| placed.station.flags & ADDRESS_LEASED != 0;
        let show = |placed: &Placed<'_>| {
            let ipv4 = match leased(placed) {
                true => "an IPv4 address by DHCP".into(),
                false => String::new(),
            };
            let known = show_addresses(&placed.station.addresses);
            let parts: Vec<String> = [ipv4, known]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            parts.join(" and ")
        };
        if here.mac == there.mac {
            let what = format!("the MAC address {}", show_mac(here.mac));
            if one.function.is_some() && other.function.is_some() && one.function != other.function
            {
                let way = |placed: &Placed<'_>| {
                    let name = placed.function.map(|function| self.function_name(function));
                    name.unwrap_or_default()
                };
                let here = format!("is reached through {}", way(one));
                let there = format!("through {}", way(other));
                return Some((one.station.mac_at, what, here, there));
            }
            return (here != there || leased(one) != leased(other)).then(|| {
                let here = format!("has {}", show(one));
                (one.station.mac_at, what, here, show(other))
            });
        }
        let macs = || {
            let show = |mac| format!("the MAC address {}", show_mac(mac));
            (format!("has {}", show(here.mac)), show(there.mac))
        };
        if here.ipv4 == there.ipv4 && here.ipv4 != [0; 4] {
            let (one_mac, other_mac) = macs();
            return Some((
                one.station.ipv4_at,
                show_ipv4(here.ipv4),
                one_mac,
                other_mac,
            ));
        }
        if here.ipv6 == there.ipv6 && here.ipv6 != [0; 16] {
            let (one_mac, other_mac) = macs();
            return Some((
                one.station.ipv6_at,
                show_ipv6(here.ipv6),
                one_mac,
                other_mac,
            ));
        }
        None
    }

    /// Reports servers for whose address nobody asks, or more than one.
    fn check_dhcp(&mut self, placed: &[Placed<'_>]) {
        let by_dhcp = |placed: &&Placed<'_>| {
            placed.station.flags & ADDRESS_LEASED != 0 && placed.station.pool.is_none()
        };
        let asks = |placed: &&Placed<'_>| placed.station.flags & DHCP_CLIENT != 0;
        for (index, one) in placed.iter().enumerate() {
            if !by_dhcp(&one) {
                continue;
            }
            if one.station.flags & ADDRESS_OWN != 0 {
                self.diagnostics.error(
                    one.station.ipv4_at,
                    "only the address that applications share can come by DHCP: write the server's MAC address, or an IPv4 address",
                );
                continue;
            }
            let same = |other: &&Placed<'_>| other.server == one.server && by_dhcp(other);
            let earlier = || placed[..index].iter().filter(same);
            if asks(&one) {
                if let Some(first) = earlier().find(asks) {
                    let line = self.diagnostics.line(first.at);
                    let message = format!(
                        "\"{}\" in line {line} asks for the address already: remove dhcp_client from one",
                        self.domain_name(first.client)
                    );
                    self.diagnostics.error(one.at, message);
                }
            } else if earlier().next().is_none()
                && !placed.iter().filter(same).any(|one| asks(&one))
            {
                let message = format!(
                    "nobody asks for the address of \"{}\": write dhcp_client=\"true\" into the frame channel of the program that does",
                    self.domain_name(one.server)
                );
                self.diagnostics.error(one.station.ipv4_at, message);
            }
        }
    }

    /// Notes who uses which pool; reports pools of two servers, and those that
    /// nobody uses or that are too small.
    fn check_pool_users(&mut self, placed: &[Placed<'_>]) {
        for placed in placed {
            let Some(index) = placed.station.pool else {
                continue;
            };
            let user = (placed.server, placed.portmap, placed.at);
            let first = *self.pools[index].users.get_or_insert(user);
            self.pools[index].user_count += 1;
            if (first.0, first.1) != (user.0, user.1) {
                let line = self.diagnostics.line(first.2);
                let message = format!(
                    "the pool \"{}\" is used with \"{}\" in line {line}: describe another for \"{}\"",
                    self.pools[index].entry.name(),
                    self.domain_name(first.0),
                    self.domain_name(user.0)
                );
                self.diagnostics.error(placed.station.mac_at, message);
            }
        }
        for pool in self.pools.iter().filter(|pool| pool.entry.count > 0) {
            let message = match pool.user_count {
                0 => format!(
                    "no application has an address out of \"{}\"",
                    pool.entry.name()
                ),
                users if users > pool.entry.count => format!(
                    "{users} applications have addresses out of \"{}\", which has {}: those that come last wait for one",
                    pool.entry.name(),
                    pool.entry.count
                ),
                _ => continue,
            };
            self.diagnostics.warning(pool.at, message);
        }
    }

    /// Reports addresses that two have who do not share them.
    fn check_ranges(&mut self, placed: &[Placed<'_>]) {
        let mut claims = Claims::default();
        for device in &self.devices {
            for index in 0..usize::from(device.entry.vf_count) {
                if let Some(mac) = device.entry.vf_mac(index) {
                    let what = format!("{}.vf{index}", device.name);
                    claims.add(Role::Function, &what, Number::mac(mac), 1, device.at);
                }
            }
        }
        let stations = placed.iter().filter(|placed| placed.station.pool.is_none());
        for placed in stations {
            let (station, own) = (&placed.station, &placed.station.addresses);
            let name = format!("\"{}\"", self.domain_name(placed.client));
            for (number, at) in [
                (Number::mac(own.mac), station.mac_at),
                (Number::ipv4(own.ipv4), station.ipv4_at),
                (Number::ipv6(own.ipv6), station.ipv6_at),
            ] {
                claims.add(Role::Station, &name, number, 1, at);
            }
            let (ipv4_at, ipv6_at) = (station.gateway_at, station.ipv6_gateway_at);
            claims.add_gateways(&name, own, ipv4_at, ipv6_at);
        }
        for pool in self.pools.iter().filter(|pool| pool.entry.count > 0) {
            let (name, first) = (
                format!("the pool \"{}\"", pool.entry.name()),
                &pool.entry.base,
            );
            for (number, at) in [
                (Number::mac(first.mac), pool.mac_at),
                (Number::ipv4(first.ipv4), pool.ipv4_at),
                (Number::ipv6(first.ipv6), pool.ipv6_at),
            ] {
                claims.add(Role::Pool, &name, number, pool.entry.count, at);
            }
            claims.add_gateways(&name, first, pool.gateway_at, pool.ipv6_gateway_at);
        }
        claims.report(&mut self.diagnostics);
    }

    /// What the description calls a function.
    fn function_name(&self, function: PciFunction) -> String {
        let id = requester_id(function);
        let name = self.devices.iter().find_map(|device| {
            let index = virtual_index(&device.entry, id)?;
            Some(format!("{}.vf{index}", device.name))
        });
        name.unwrap_or_else(|| function.to_string())
    }

    /// The virtual function with this MAC address, and its name.
    pub(super) fn function_with_mac(&self, mac: [u8; 6]) -> Option<(PciFunction, String)> {
        self.devices.iter().find_map(|device| {
            (0..usize::from(device.entry.vf_count)).find_map(|index| {
                let id = device.entry.vf_requester_id(index)?;
                let name = format!("{}.vf{index}", device.name);
                let same = device.entry.vf_mac(index) == Some(mac) && mac != [0; 6];
                same.then(|| (model_function(id), name))
            })
        })
    }
}
