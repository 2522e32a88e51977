//! The filters of a device: which addresses' frames go to which virtual function.

use segue_igb_driver::filters::{ADDRESS_FILTERS, Filter, FilterTable};
use zerocopy::IntoBytes;

use super::Draft;
use super::devices::{requester_id, virtual_index};
use super::patches::Reason;
use super::stations::Placed;

/// All stations of a link (RFC 4291, section 2.7.1), as a MAC address (RFC 2464).
pub(super) const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

impl Draft<'_, '_> {
    /// Finds out which further addresses the devices must let through, and tells
    /// their drivers. The stations go together (`check_stations`).
    pub(super) fn expand_filters(&mut self, placed: &[Placed<'_>]) {
        let mut pools_seen = vec![false; self.pools.len()];
        for placed in placed {
            let Some((device, function)) = self.virtual_function(placed) else {
                continue;
            };
            let mut stations = vec![placed.station.addresses];
            if let Some(index) = placed.station.pool {
                if std::mem::replace(&mut pools_seen[index], true) {
                    continue;
                }
                stations = self.pools[index].entry.members().collect();
            }
            let device = &mut self.devices[device];
            let own = device.entry.vf_mac(function);
            let mut add = |mac| {
                if Some(mac) != own && !device.filters.contains(&(mac, function)) {
                    device.filters.push((mac, function));
                }
            };
            add(ALL_NODES);
            for station in stations {
                add(station.mac);
                add(solicited_node(station.link_local()));
                if station.ipv6 != [0; 16] {
                    add(solicited_node(station.ipv6));
                }
            }
        }
        self.check_filter_counts(placed);
    }

    /// Tells the drivers the filters. To be called when all are known.
    pub(super) fn expand_filters_of_devices(&mut self) {
        // After a mistake, some may be missing.
        if !self.diagnostics.any_error() {
            self.patch_filters();
        }
    }

    /// The device and the virtual function that a station's frames come through.
    fn virtual_function(&self, placed: &Placed<'_>) -> Option<(usize, usize)> {
        let id = requester_id(placed.function?);
        self.devices
            .iter()
            .enumerate()
            .find_map(|(device, notes)| Some((device, virtual_index(&notes.entry, id)?)))
    }

    /// Reports a device that has to tell apart more addresses than it can.
    fn check_filter_counts(&mut self, placed: &[Placed<'_>]) {
        for device in &self.devices {
            let functions = (0..usize::from(device.entry.vf_count))
                .filter(|&index| device.entry.vf_mac(index).is_some())
                .count();
            let further = device.filters.iter().filter(|(mac, _)| mac[0] & 1 == 0);
            let further: Vec<[u8; 6]> = further.map(|(mac, _)| *mac).collect();
            let of_applications = |mac: &&[u8; 6]| {
                let mut stations = placed.iter().map(|placed| &placed.station);
                stations.any(|station| station.pool.is_none() && station.addresses.mac == **mac)
            };
            let applications = further.iter().filter(of_applications).count();
            let pools = further.len() - applications;
            if functions + further.len() > ADDRESS_FILTERS {
                let message = format!(
                    "\"{}\" has {ADDRESS_FILTERS} filters for MAC addresses, but {} are wanted: {functions} of virtual functions, {applications} of applications and {pools} of address pools. Share addresses, or make the pools smaller",
                    device.name,
                    functions + further.len()
                );
                self.diagnostics.error(device.at, message);
            }
        }
    }

    /// Writes the filters into the programs that own the devices.
    fn patch_filters(&mut self) {
        for domain in 0..self.domains.len() {
            let mut table = FilterTable::EMPTY;
            let mut at = None;
            // As in the domain's table of devices.
            let devices = self
                .devices
                .iter()
                .filter(|device| device.owner == Some(domain) || device.manager == Some(domain));
            for (place, device) in devices.enumerate() {
                if device.owner != Some(domain) {
                    continue;
                }
                for (mac, function) in &device.filters {
                    at = at.or(Some(device.at));
                    let (Ok(device), Ok(function)) = (u8::try_from(place), u8::try_from(*function))
                    else {
                        continue;
                    };
                    let filter = Filter {
                        mac: *mac,
                        device,
                        function,
                    };
                    // More addresses than it holds have been reported.
                    let _ = table.add(filter);
                }
            }
            if let Some(at) = at {
                let reason = Reason::Table {
                    element: "frame_channel",
                    declare: "mac_filters: FilterTable = FilterTable::EMPTY",
                };
                let bytes = table.as_bytes().to_vec();
                self.patch(domain, at, "mac_filters", bytes, reason);
            }
        }
    }
}

/// The MAC address by which the owner of an IPv6 address is looked for (RFC 4291,
/// section 2.7.1, and RFC 2464, section 7).
pub(super) fn solicited_node(address: [u8; 16]) -> [u8; 6] {
    let [.., a, b, c] = address;
    [0x33, 0x33, 0xff, a, b, c]
}
