//! Frame channels: an application's way to a network server becomes three
//! memory regions, an IO map, two channels and entries in three tables.

use std::collections::HashMap;

use roxmltree::Node;
use segue_frame_channel::config::{
    ClientConfig, MAXIMUM_APPLICATIONS, ServerEntry, ServerTable, VERIFY_CHECKSUMS, name_to_bytes,
};
use segue_frame_channel::layout;
use segue_portmap_core::config::{MAXIMUM_OWNERS, NO_POOL, OwnerEntry, OwnerTable};
use zerocopy::IntoBytes;

use super::addresses::Station;
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use super::stations::Placed;
use super::value::{Value, attribute};
use super::{Draft, RegionNotes};
use crate::model::{
    Channel, ChannelEnd, Contents, FrameChannel, IoMap, Map, MemoryRegion, PdIndex, RegionIndex,
};

/// Entries of a ring that states no number.
const DEFAULT_ENTRIES: u32 = 256;

/// One frame channel, read and checked.
struct Wanted {
    at: usize,
    server: usize,
    client: usize,
    portmap: usize,
    space: usize,
    pool_size: u64,
    transmit_entries: u32,
    receive_entries: u32,
    station: Station,
    /// The client computes checksums itself.
    verifies: bool,
}

/// Tables that grow with each frame channel, by protection domain.
#[derive(Default)]
struct Tables {
    servers: Vec<(usize, usize, ServerTable)>,
    /// The server that a port map serves goes with its table, as its numbers are
    /// the positions in the server's table.
    portmaps: Vec<(usize, usize, usize, OwnerTable)>,
}

/// A region made for a frame channel.
struct Made {
    region: RegionIndex,
    address: u64,
    size: u64,
}

impl Draft<'_, '_> {
    pub(super) fn expand_frame_channels(&mut self, nodes: &[Node<'_, '_>]) {
        let mut tables = Tables::default();
        let mut clients: HashMap<usize, usize> = HashMap::new();
        let mut all = Vec::new();
        for &node in nodes {
            let Some(wanted) = self.read_frame_channel(node) else {
                continue;
            };
            if let Some(first) = clients.insert(wanted.client, wanted.at) {
                let line = self.diagnostics.line(first);
                let message = format!(
                    "\"{}\" already has a frame channel in line {line}: an application has one",
                    self.domain_name(wanted.client)
                );
                self.diagnostics.error(wanted.at, message);
                continue;
            }
            all.push(wanted);
        }
        let mut placed = self.placed(&mut all);
        if self.check_stations(&mut placed) {
            self.expand_filters(&placed);
        }
        self.expand_address_pools();
        for wanted in &all {
            // What is missing has been reported.
            let _ = self.expand_frame_channel(wanted, &mut tables);
        }
        for (server, at, table) in tables.servers {
            let reason = Reason::Table {
                element: "frame_channel",
                declare: "frame_channels: ServerTable = ServerTable::EMPTY",
            };
            let bytes = table.as_bytes().to_vec();
            self.patch(server, at, "frame_channels", bytes, reason);
        }
        for (portmap, server, at, table) in tables.portmaps {
            self.check_port_table(portmap, server, at);
            let reason = Reason::Table {
                element: "frame_channel",
                declare: "port_owners: OwnerTable = OwnerTable::EMPTY",
            };
            let bytes = table.as_bytes().to_vec();
            self.patch(portmap, at, "port_owners", bytes, reason);
        }
    }

    fn read_frame_channel(&mut self, node: Node<'_, '_>) -> Option<Wanted> {
        let at = node.range().start;
        let domain = |draft: &mut Self, name: &str| {
            attribute(node, name).and_then(|value| draft.find_domain(value))
        };
        let server = domain(self, "server");
        let client = domain(self, "client");
        let portmap = domain(self, "portmap");
        let space = attribute(node, "io_address_space")
            .and_then(|value| self.space_names.find(value, &mut self.diagnostics));
        let pool_size = attribute(node, "pool_size").and_then(|value| self.pool_size(value));
        let transmit_entries = self.ring_entries(node, "transmit_entries");
        let receive_entries = self.ring_entries(node, "receive_entries");
        let station = self.read_station(node);
        let verifies = match attribute(node, "verify_checksums") {
            None => Some(false),
            Some(value) => value.boolean(&mut self.diagnostics),
        };
        let roles = [("server", server), ("client", client), ("portmap", portmap)];
        for (position, (name, domain)) in roles.iter().enumerate() {
            for (other_name, other) in &roles[..position] {
                if domain.is_some() && domain == other {
                    let at = attribute(node, name).map_or(at, |value| value.at);
                    self.diagnostics.error(
                        at,
                        format!(
                            "{name} is the same protection domain as {other_name}: name another"
                        ),
                    );
                    return None;
                }
            }
        }
        let (client, portmap) = (client?, portmap?);
        let portmap_at = attribute(node, "portmap").map_or(at, |value| value.at);
        let may_call = self.check_call(client, portmap, portmap_at);
        may_call.then_some(())?;
        Some(Wanted {
            at,
            server: server?,
            client,
            portmap,
            space: space?,
            pool_size: pool_size?,
            transmit_entries: transmit_entries?,
            receive_entries: receive_entries?,
            station: station?,
            verifies: verifies?,
        })
    }

    /// Who the stations are, and where their frames arrive.
    fn placed<'a>(&self, all: &'a mut [Wanted]) -> Vec<Placed<'a>> {
        let placed = all.iter_mut().map(|wanted| {
            let known = self.spaces[wanted.space].function_known;
            let function = self.system.io_address_spaces[wanted.space].function;
            Placed {
                at: wanted.at,
                server: wanted.server,
                client: wanted.client,
                portmap: wanted.portmap,
                function: known.then_some(function),
                station: &mut wanted.station,
            }
        });
        placed.collect()
    }

    fn pool_size(&mut self, value: Value<'_>) -> Option<u64> {
        let size = value.size(&mut self.diagnostics)?;
        if layout::pool_size_is_valid(size) {
            return Some(size);
        }
        let (first, last) = (layout::POOL_SIZE.start(), layout::POOL_SIZE.end());
        self.diagnostics.error(
            value.at,
            format!(
                "pool_size=\"{}\" cannot be: write a power of two from {first:#x} to {last:#x}",
                value.text
            ),
        );
        None
    }

    fn ring_entries(&mut self, node: Node<'_, '_>, name: &str) -> Option<u32> {
        let Some(value) = attribute(node, name) else {
            return Some(DEFAULT_ENTRIES);
        };
        let number = value.number(&mut self.diagnostics)?;
        let entries = u32::try_from(number)
            .ok()
            .filter(|entries| layout::entries_are_valid(*entries));
        if entries.is_none() {
            let (first, last) = (layout::ENTRIES.start(), layout::ENTRIES.end());
            self.diagnostics.error(
                value.at,
                format!(
                    "{name}=\"{}\" cannot be: write a power of two from {first} to {last}",
                    value.text
                ),
            );
        }
        entries
    }

    /// Makes everything that a frame channel consists of; `None` after a
    /// mistake, which is reported.
    fn expand_frame_channel(&mut self, wanted: &Wanted, tables: &mut Tables) -> Option<()> {
        let Wanted {
            at,
            server,
            client,
            portmap,
            ..
        } = *wanted;
        let client_size = layout::client_region_size(wanted.transmit_entries) as u64;
        let server_size = layout::server_region_size(wanted.receive_entries) as u64;
        let prefix = format!("{}.{}", self.domain_name(server), self.domain_name(client));
        let client_region = self.shared_region(wanted, format!("{prefix}.client"), client_size)?;
        let server_region = self.shared_region(wanted, format!("{prefix}.server"), server_size)?;
        let pool = self.shared_region(wanted, format!("{prefix}.pool"), wanted.pool_size)?;
        for (made, client_writes) in [
            (&client_region, true),
            (&server_region, false),
            (&pool, true),
        ] {
            self.map_generated(client, made, client_writes);
            self.map_generated(server, made, !client_writes);
        }
        let space = &mut self.system.io_address_spaces[wanted.space];
        space.maps.push(IoMap {
            region: pool.region,
            address: pool.address,
            writable: false,
        });

        let client_id = self.generated_id(client, at);
        let server_id = self.generated_id(server, at);
        let caller_id = self.generated_id(client, at);
        let portmap_id = self.generated_id(portmap, at);
        let (client_id, server_id) = (client_id?, server_id?);
        let (caller_id, portmap_id) = (caller_id?, portmap_id?);
        let channel = self.system.channels.len();
        let end = |pd: usize, id: u8, protected_calls: bool, notify: bool| ChannelEnd {
            pd: PdIndex(pd),
            id,
            protected_calls,
            notify,
        };
        self.system.channels.push(Channel {
            ends: [
                end(client, client_id, false, true),
                end(server, server_id, false, true),
            ],
        });
        self.system.channels.push(Channel {
            ends: [
                end(client, caller_id, true, false),
                // When the client's addresses change.
                end(portmap, portmap_id, false, true),
            ],
        });

        let server_name = name_to_bytes(self.domain_name(server))?;
        let client_name = name_to_bytes(self.domain_name(client))?;
        let (addresses, flags) = (wanted.station.addresses, wanted.station.flags);
        let entry = ServerEntry {
            name: client_name,
            client_region: client_region.address,
            client_region_size: client_size,
            server_region: server_region.address,
            server_region_size: server_size,
            pool: pool.address,
            pool_size: wanted.pool_size,
            transmit_entries: wanted.transmit_entries,
            receive_entries: wanted.receive_entries,
            channel: u32::from(server_id),
            flags,
            addresses,
            ..ServerEntry::EMPTY
        };
        let owner = self.add_server_entry(tables, wanted, entry)?;
        self.add_owner(tables, wanted, client_name, portmap_id, owner)?;
        let config = ClientConfig {
            server: server_name,
            client_region: client_region.address,
            client_region_size: client_size,
            server_region: server_region.address,
            server_region_size: server_size,
            pool: pool.address,
            pool_size: wanted.pool_size,
            transmit_entries: wanted.transmit_entries,
            receive_entries: wanted.receive_entries,
            channel: u32::from(client_id),
            portmap_channel: u32::from(caller_id),
            owner,
            flags: flags | if wanted.verifies { VERIFY_CHECKSUMS } else { 0 },
            addresses,
            ..ClientConfig::EMPTY
        };
        let reason = Reason::Table {
            element: "frame_channel",
            declare: "frame_channel: ClientConfig = ClientConfig::EMPTY",
        };
        self.patch(
            client,
            at,
            "frame_channel",
            config.as_bytes().to_vec(),
            reason,
        );
        self.system.frame_channels.push(FrameChannel {
            server: PdIndex(server),
            client: PdIndex(client),
            portmap: PdIndex(portmap),
            client_region: client_region.region,
            server_region: server_region.region,
            pool: pool.region,
            channel,
            portmap_channel: channel + 1,
            addresses,
            flags,
            address_pool: wanted.station.pool,
        });
        Some(())
    }

    /// Makes a region at an address that is free in both protection domains and
    /// in the IO address space, so that one number names it everywhere.
    fn shared_region(&mut self, wanted: &Wanted, name: String, size: u64) -> Option<Made> {
        let spaces = [
            &self.domains[wanted.server].spans,
            &self.domains[wanted.client].spans,
            &self.spaces[wanted.space].spans,
        ];
        let Some(address) = generated_address(&spaces, size) else {
            self.diagnostics.error(
                wanted.at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.clone(), size, wanted.at)?;
        let range = address..address + size;
        let at = Some(wanted.at);
        self.domains[wanted.server]
            .spans
            .insert(range.clone(), &name, at);
        self.domains[wanted.client]
            .spans
            .insert(range.clone(), &name, at);
        self.spaces[wanted.space].spans.insert(range, &name, at);
        Some(Made {
            region,
            address,
            size,
        })
    }

    /// Adds a region of the builder's own.
    pub(super) fn generated_region(
        &mut self,
        name: String,
        size: u64,
        at: usize,
    ) -> Option<RegionIndex> {
        let index = self.regions.len();
        if let Some(&(_, first)) = self.region_names.known.get(&name) {
            self.diagnostics.error(
                first,
                format!("the builder makes a memory region \"{name}\" itself: choose another name"),
            );
            return None;
        }
        self.region_names.known.insert(name.clone(), (index, at));
        self.regions.push(RegionNotes {
            at,
            size_known: true,
            used: true,
            ..RegionNotes::default()
        });
        self.system.regions.push(MemoryRegion {
            name,
            size,
            page_size: PAGE,
            physical_address: None,
            is_granted: false,
            contents: Contents::Zero,
        });
        Some(RegionIndex(index))
    }

    fn map_generated(&mut self, domain: usize, made: &Made, writable: bool) {
        debug_assert!(made.size.is_multiple_of(PAGE));
        self.system.protection_domains[domain].maps.push(Map {
            region: made.region,
            address: made.address,
            writable,
            cached: true,
        });
    }

    /// Adds an application to its server's table; its owner number.
    fn add_server_entry(
        &mut self,
        tables: &mut Tables,
        wanted: &Wanted,
        entry: ServerEntry,
    ) -> Option<u16> {
        let known = tables
            .servers
            .iter()
            .position(|(server, ..)| *server == wanted.server);
        let index = known.unwrap_or_else(|| {
            let table = (wanted.server, wanted.at, ServerTable::EMPTY);
            tables.servers.push(table);
            tables.servers.len() - 1
        });
        let table = &mut tables.servers[index].2;
        let Some(place) = table.entries.get_mut(table.count as usize) else {
            let message = format!(
                "\"{}\" serves {MAXIMUM_APPLICATIONS} applications already: describe another server",
                self.domain_name(wanted.server)
            );
            self.diagnostics.error(wanted.at, message);
            return None;
        };
        table.count += 1;
        let owner = u16::try_from(table.count).ok()?;
        *place = ServerEntry { owner, ..entry };
        Some(owner)
    }

    /// Adds an application to the port map's table.
    fn add_owner(
        &mut self,
        tables: &mut Tables,
        wanted: &Wanted,
        name: [u8; 64],
        channel: u8,
        owner: u16,
    ) -> Option<()> {
        let known = tables
            .portmaps
            .iter()
            .position(|(portmap, ..)| *portmap == wanted.portmap);
        let index = known.unwrap_or_else(|| {
            let table = (wanted.portmap, wanted.server, wanted.at, OwnerTable::EMPTY);
            tables.portmaps.push(table);
            tables.portmaps.len() - 1
        });
        let (_, server, _, table) = &mut tables.portmaps[index];
        if *server != wanted.server {
            let message = format!(
                "\"{}\" keeps the ports of the server \"{}\": \"{}\" needs a port map of its own",
                self.domain_name(wanted.portmap),
                self.domain_name(*server),
                self.domain_name(wanted.server)
            );
            self.diagnostics.error(wanted.at, message);
            return None;
        }
        let Some(place) = table.entries.get_mut(table.count as usize) else {
            let message = format!(
                "\"{}\" keeps the ports of {MAXIMUM_OWNERS} applications already: describe another port map",
                self.domain_name(wanted.portmap)
            );
            self.diagnostics.error(wanted.at, message);
            return None;
        };
        let pool = match wanted.station.pool {
            Some(index) => u16::try_from(index + 1).ok()?,
            None => NO_POOL,
        };
        *place = OwnerEntry {
            name,
            channel: u32::from(channel),
            owner,
            flags: wanted.station.flags,
            addresses: wanted.station.addresses,
            pool,
            ..OwnerEntry::EMPTY
        };
        table.count += 1;
        Some(())
    }
}
