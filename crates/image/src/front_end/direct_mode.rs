//! Direct mode: a director, virtual functions that can be granted, and the applications
//! that they can be granted to become regions, channels, capabilities and tables.

use roxmltree::Node;
use segue_director_core::board::{ANSWERS_SIZE, BOARD_SIZE};
use segue_director_core::config::{
    self, DirectConfig, DirectorEntry, DirectorTable, GrantTable, MAXIMUM_APPLICATIONS,
    MAXIMUM_INSIDE, MAXIMUM_IO_TABLES, RouteTable, START_DIRECT, WINDOW_SIZE,
};
use segue_frame_channel::config::{ADDRESS_LEASED, ADDRESS_OWN, name_to_bytes};
use segue_frame_channel::layout::POOL_SIZE;
use segue_igb_driver::vf::{Configuration, Layout};
use segue_system_image::format::layout::grant::{FRAME_COUNT, MEMORY_BITS};
use zerocopy::IntoBytes;

use super::Draft;
use super::devices::{model_function, requester_id, virtual_index};
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use super::value::{Value, attribute};
use crate::back_end::io_tables;
use crate::model::{
    Channel, ChannelEnd, FrameChannel, GrantedFunction, Grantee, Grants, Map, PdIndex, RegionIndex,
};
use crate::program::Lookup;

/// The transmit pool in the memory for a function, unless the description says how much that is.
const DEFAULT_POOL: u64 = 0x20_0000;
/// The BAR of a virtual function that holds its registers.
const REGISTERS_BAR: usize = 0;

/// The `<director>` element, read and checked.
struct Role {
    at: usize,
    director: usize,
    device: usize,
    manager: usize,
    owner: usize,
    /// One bit for each function that can be granted.
    functions: u8,
}

/// A `<direct_mode>` element, read and checked.
struct Wanted {
    at: usize,
    client: usize,
    functions: u8,
    memory_size: u64,
    starts_direct: bool,
    channel: FrameChannel,
    owner: u16,
}

/// A region and its address in all that map it.
#[derive(Clone, Copy)]
struct Shared {
    region: RegionIndex,
    address: u64,
}

impl Draft<'_, '_> {
    /// Expands `<director>` and `<direct_mode>`. All frame channels are there.
    pub(super) fn expand_direct_mode(
        &mut self,
        directors: &[Node<'_, '_>],
        nodes: &[Node<'_, '_>],
    ) {
        self.at_most_one(directors);
        let Some(&director) = directors.first() else {
            for node in nodes {
                self.diagnostics.error(
                    node.range().start,
                    "<direct_mode> needs somebody who switches: describe one with <director>",
                );
            }
            return;
        };
        let Some(role) = self.read_director(director) else {
            return;
        };
        let mut all = Vec::new();
        for &node in nodes {
            let Some(wanted) = self.read_direct_mode(node, &role) else {
                continue;
            };
            let twice = all
                .iter()
                .any(|other: &Wanted| other.client == wanted.client);
            if twice {
                let message = format!(
                    "\"{}\" has direct mode already: remove one",
                    self.domain_name(wanted.client)
                );
                self.diagnostics.error(wanted.at, message);
                continue;
            }
            all.push(wanted);
        }
        if all.len() > MAXIMUM_APPLICATIONS {
            let message =
                format!("one director switches {MAXIMUM_APPLICATIONS} applications: remove some");
            self.diagnostics.error(role.at, message);
            return;
        }
        if all.len() == nodes.len() {
            self.check_calls_between(&all);
            // What is missing has been reported.
            let _ = self.expand_director(&role, &all);
        }
    }

    fn read_director(&mut self, node: Node<'_, '_>) -> Option<Role> {
        let at = node.range().start;
        let director = attribute(node, "pd").and_then(|value| self.find_domain(value));
        let device = attribute(node, "device")
            .and_then(|value| self.device_names.find(value, &mut self.diagnostics))?;
        let notes = &self.devices[device];
        let (manager, owner) = (notes.manager?, notes.owner?);
        let functions_known = notes.functions_known;
        let functions =
            attribute(node, "functions").and_then(|value| self.function_set(value, device))?;
        let director = director?;
        for other in [manager, owner] {
            if other == director {
                let message = format!(
                    "\"{}\" drives the device itself: let another be the director",
                    self.domain_name(director)
                );
                self.diagnostics.error(at, message);
                return None;
            }
        }
        functions_known.then_some(Role {
            at,
            director,
            device,
            manager,
            owner,
            functions,
        })
    }

    /// Virtual functions as `1-6` or `1,3,5`: one bit each. None of them may be in use.
    fn function_set(&mut self, value: Value<'_>, device: usize) -> Option<u8> {
        let count = usize::from(self.devices[device].entry.vf_count);
        let number = |text: &str| {
            let number: usize = text.trim().parse().ok()?;
            (number < count).then_some(number)
        };
        let mut set = 0u8;
        for part in value.text.split(',') {
            let range = match part.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(part).map(|one| (one, one)),
            };
            let Some((first, last)) = range.filter(|(first, last)| first <= last) else {
                let last = count.saturating_sub(1);
                self.diagnostics.error(
                    value.at,
                    format!(
                        "{}=\"{}\" names no virtual functions: write numbers from 0 to {last}, as in 1-3 or 1,3",
                        value.name, value.text
                    ),
                );
                return None;
            };
            set |= (first..=last).fold(0, |set, index| set | 1 << index);
        }
        Some(set)
    }

    fn read_direct_mode(&mut self, node: Node<'_, '_>, role: &Role) -> Option<Wanted> {
        let at = node.range().start;
        let value = attribute(node, "application")?;
        let client = self.find_domain(value)?;
        let functions = match attribute(node, "functions") {
            None => role.functions,
            Some(value) => {
                let set = self.function_set(value, role.device)?;
                if set & !role.functions != 0 {
                    self.diagnostics.error(
                        value.at,
                        "a function is named here that <director> does not list: add it there",
                    );
                    return None;
                }
                set
            }
        };
        let memory_size = self.direct_memory(node)?;
        let start = match attribute(node, "start") {
            None => 0,
            Some(value) => value.word(&["server", "direct"], &mut self.diagnostics)?,
        };
        let channels = self.system.frame_channels.iter();
        let Some(channel) = channels.clone().find(|channel| channel.client.0 == client) else {
            // One that has mistakes has been reported.
            if !self.diagnostics.any_error() {
                let message = format!(
                    "\"{}\" has no frame channel: describe one, or write <always_direct>",
                    self.domain_name(client)
                );
                self.diagnostics.error(value.at, message);
            }
            return None;
        };
        if channel.flags & ADDRESS_OWN == 0 {
            let message = format!(
                "\"{}\" shares its address, which cannot go with it: give it a MAC address of its own",
                self.domain_name(client)
            );
            self.diagnostics.error(value.at, message);
            return None;
        }
        let before = channels
            .take_while(|other| other.client.0 != client)
            .filter(|other| other.server == channel.server)
            .count();
        Some(Wanted {
            at,
            client,
            functions,
            memory_size,
            starts_direct: start == 1,
            channel: channel.clone(),
            owner: u16::try_from(before + 1).ok()?,
        })
    }

    /// The memory for a function: its transmit pool, and behind it its rings and receive buffers.
    pub(super) fn direct_memory(&mut self, node: Node<'_, '_>) -> Option<u64> {
        let rings = Layout::new(&Configuration::APPLICATION).ok()?.end as u64;
        let Some(value) = attribute(node, "memory_size") else {
            return Some(DEFAULT_POOL + rings);
        };
        let least = POOL_SIZE.start() + rings;
        let size = value.size(&mut self.diagnostics)?;
        // One IO page table for each 2 MiB, and some more.
        let most = ((1 << MEMORY_BITS) - MAXIMUM_IO_TABLES as u64) * PAGE;
        if !size.is_multiple_of(PAGE) || !(least..=most).contains(&size) {
            self.diagnostics.error(
                value.at,
                format!(
                    "memory_size=\"{}\" cannot be: write a multiple of 0x1000 from {least:#x} to {most:#x}",
                    value.text
                ),
            );
            return None;
        }
        Some(size)
    }

    /// Reports calls between applications with direct mode: who holds the CNode of a
    /// grant could take in capabilities of another's, out of the manager's reach.
    fn check_calls_between(&mut self, all: &[Wanted]) {
        let has = |pd: PdIndex| all.iter().any(|wanted| wanted.client == pd.0);
        let pair = self.system.channels.iter().find_map(|channel| {
            let [one, other] = &channel.ends;
            let calls = one.protected_calls || other.protected_calls;
            (calls && has(one.pd) && has(other.pd)).then_some((one.pd.0, other.pd.0))
        });
        if let Some((one, other)) = pair {
            let message = format!(
                "\"{}\" and \"{}\" have direct mode and a channel for protected calls, by which the capabilities of a grant could be passed on: remove pp, or direct mode from one",
                self.domain_name(one),
                self.domain_name(other)
            );
            self.diagnostics.error(all[0].at, message);
        }
    }

    fn expand_director(&mut self, role: &Role, all: &[Wanted]) -> Option<()> {
        let server = all.first().map(|wanted| wanted.channel.server);
        let another = all
            .iter()
            .find(|wanted| Some(wanted.channel.server) != server);
        if let Some(wanted) = another {
            self.diagnostics.error(
                wanted.at,
                "all applications of a director are behind one network server",
            );
            return None;
        }
        let at = role.at;
        let console = self.console_domain;
        let functions = self.granted_functions(role)?;
        // Whoever takes part sees the board at one address.
        let mut readers: Vec<usize> = [role.manager, role.owner]
            .into_iter()
            .chain(server.map(|server| server.0))
            .chain(console)
            .chain(all.iter().map(|wanted| wanted.client))
            .collect();
        readers.sort_unstable();
        readers.dedup();
        let board =
            self.region_of_one("director.board", BOARD_SIZE, role.director, &readers, at)?;
        let director = role.director;
        let mut table = DirectorTable {
            functions: role.functions.into(),
            server_function: self.server_function(role, all)?,
            server_domain: server.map_or(u32::MAX, |server| server.0 as u32),
            ..DirectorTable::EMPTY
        };
        let mut partners = [(role.manager, 0), (role.owner, 1)].map(|(partner, place)| {
            let (channel, its) = self.channel_between(director, partner, at)?;
            let name = format!("{}.answers", self.domain_name(partner));
            let answers = self.region_of_one(&name, ANSWERS_SIZE, partner, &[director], at)?;
            table.channels[place] = channel.into();
            table.answers[place] = answers.address;
            Some((its, answers.address))
        });
        let (Some((manager_channel, manager_answers)), Some((owner_channel, owner_answers))) =
            (partners[0].take(), partners[1].take())
        else {
            return None;
        };
        let mut grants = GrantTable {
            count: all.len() as u32,
            channel: manager_channel.into(),
            functions: role.functions.into(),
            board: board.address,
            answers: manager_answers,
            ..GrantTable::EMPTY
        };
        for function in &functions {
            grants.domains[usize::from(function.number)] = self.free_domain_id(function.number);
        }
        let routes = RouteTable {
            count: all.len() as u32,
            channel: owner_channel.into(),
            functions: role.functions.into(),
            server_function: table.server_function,
            board: board.address,
            answers: owner_answers,
        };
        let inside = self.inside_addresses(server)?;
        let mut grantees = Vec::new();
        for (index, wanted) in all.iter().enumerate() {
            let (entry, grantee) =
                self.expand_application(role, wanted, index, board.address, &inside)?;
            grants.windows[index] = grantee.window;
            grants.allowed[index] = grantee.functions;
            table.entries[index] = entry;
            table.count += 1;
            grantees.push(grantee);
        }
        self.system.grants = Some(Grants {
            manager: PdIndex(role.manager),
            functions,
            grantees,
        });
        self.patch_table(
            director,
            at,
            "director_table",
            table.as_bytes(),
            "director_table: DirectorTable = DirectorTable::EMPTY",
        );
        self.patch_table(
            director,
            at,
            "board",
            &board.address.to_le_bytes(),
            "board: u64 = 0",
        );
        self.patch_table(
            role.manager,
            at,
            "grants",
            grants.as_bytes(),
            "grants: GrantTable = GrantTable::EMPTY",
        );
        self.patch_table(
            role.owner,
            at,
            "routes",
            routes.as_bytes(),
            "routes: RouteTable = RouteTable::EMPTY",
        );
        if let Some(server) = server {
            self.patch_table(
                server.0,
                at,
                "director_board",
                &board.address.to_le_bytes(),
                "director_board: u64 = 0",
            );
        }
        if let Some(console) = console {
            self.expand_console_of_director(role, console, &board, &table)?;
        }
        // Who shows what the modes are.
        for wanted in all {
            if self.has_symbol(wanted.client, "switchable") {
                self.patch_table(
                    wanted.client,
                    at,
                    "switchable",
                    table.as_bytes(),
                    "switchable: DirectorTable = DirectorTable::EMPTY",
                );
                self.patch_table(
                    wanted.client,
                    at,
                    "director_board",
                    &board.address.to_le_bytes(),
                    "director_board: u64 = 0",
                );
            }
        }
        Some(())
    }

    fn expand_console_of_director(
        &mut self,
        role: &Role,
        console: usize,
        board: &Shared,
        table: &DirectorTable,
    ) -> Option<()> {
        let (director, at) = (role.director, role.at);
        let wishes =
            self.region_of_one("director.wishes", ANSWERS_SIZE, console, &[director], at)?;
        let (its, _) = self.channel_between(console, director, at)?;
        let address = |address: u64| address.to_le_bytes();
        self.patch_table(
            director,
            at,
            "wishes",
            &address(wishes.address),
            "wishes: u64 = 0",
        );
        self.patch_table(
            console,
            at,
            "wishes",
            &address(wishes.address),
            "wishes: u64 = 0",
        );
        self.patch_table(
            console,
            at,
            "director_channel",
            &address(its.into()),
            "director_channel: u64 = 0",
        );
        self.patch_table(
            console,
            at,
            "director_board",
            &address(board.address),
            "director_board: u64 = 0",
        );
        self.patch_table(
            console,
            at,
            "switchable",
            table.as_bytes(),
            "switchable: DirectorTable = DirectorTable::EMPTY",
        );
        Some(())
    }

    fn patch_table(
        &mut self,
        domain: usize,
        at: usize,
        symbol: &str,
        bytes: &[u8],
        declare: &'static str,
    ) {
        let reason = Reason::Table {
            element: "director",
            declare,
        };
        self.patch(domain, at, symbol, bytes.to_vec(), reason);
    }

    fn has_symbol(&self, domain: usize, symbol: &str) -> bool {
        let program = self.domains[domain].program.as_ref();
        program.is_some_and(|program| matches!(program.symbol(symbol), Lookup::Found(_)))
    }

    /// Makes what one application needs for direct mode.
    fn expand_application(
        &mut self,
        role: &Role,
        wanted: &Wanted,
        index: usize,
        board: u64,
        inside: &[[u8; 6]],
    ) -> Option<(DirectorEntry, Grantee)> {
        let (client, at) = (wanted.client, wanted.at);
        let name = self.domain_name(client).to_string();
        let (director_channel, channel) = self.channel_between(role.director, client, at)?;
        let answers = self.region_of_one(
            &format!("{name}.answers"),
            ANSWERS_SIZE,
            client,
            &[role.director],
            at,
        )?;
        let size = wanted.memory_size as usize;
        let memory = self.region_of_one(&format!("{name}.direct"), size, client, &[], at)?;
        let dummy_size = FRAME_COUNT * PAGE;
        let dummies = self.generated_region(format!("{name}.dummies"), dummy_size, at)?;
        let window_size = WINDOW_SIZE as u64;
        let window = generated_address(&[&self.domains[client].spans], window_size)?;
        self.domains[client]
            .spans
            .insert(window..window + window_size, "the window", Some(at));
        let interrupts = [self.generated_id(client, at), self.generated_id(client, at)];
        let interrupts = [interrupts[0]?, interrupts[1]?];
        let tables = io_tables(std::iter::once((memory.address, wanted.memory_size)));
        let mut direct = DirectConfig {
            index: index as u32,
            channel: channel.into(),
            interrupts: interrupts.map(u32::from),
            io_tables: tables.len() as u32,
            board,
            answers: answers.address,
            window,
            memory: memory.address,
            memory_size: wanted.memory_size,
            inside_count: inside.len() as u32,
            ..DirectConfig::EMPTY
        };
        let addresses = tables.iter().map(|table| table.address);
        for (place, address) in direct.io_table_addresses.iter_mut().zip(addresses) {
            *place = address;
        }
        direct.inside[..inside.len()].copy_from_slice(inside);
        let reason = Reason::Table {
            element: "direct_mode",
            declare: "direct_mode: DirectConfig = DirectConfig::EMPTY",
        };
        self.patch(
            client,
            at,
            "direct_mode",
            direct.as_bytes().to_vec(),
            reason,
        );
        let leased = wanted.channel.flags & ADDRESS_LEASED != 0;
        let flag = |condition: bool, flag: u16| if condition { flag } else { 0 };
        let entry = DirectorEntry {
            name: name_to_bytes(&name)?,
            answers: answers.address,
            channel: director_channel.into(),
            domain: client as u32,
            functions: wanted.functions.into(),
            owner: wanted.owner,
            flags: flag(leased, config::ADDRESS_LEASED) | flag(wanted.starts_direct, START_DIRECT),
            mac: wanted.channel.addresses.mac,
            reserved: [0; 2],
        };
        let grantee = Grantee {
            pd: PdIndex(client),
            interrupts,
            memory: memory.region,
            address: memory.address,
            dummies,
            window,
            functions: wanted.functions,
        };
        Some((entry, grantee))
    }

    /// The functions that can be granted, with their registers and vectors.
    fn granted_functions(&mut self, role: &Role) -> Option<Vec<GrantedFunction>> {
        let mut functions = Vec::new();
        let entry = self.devices[role.device].entry;
        let device = self.devices[role.device].name.clone();
        for number in (0..8u8).filter(|number| role.functions >> number & 1 != 0) {
            let index = usize::from(number);
            let function = model_function(entry.vf_requester_id(index)?);
            let name = format!("{device}.vf{number}");
            let in_use = entry.vf_mac(index).is_some()
                || self.messages.keys().any(|(of, _)| *of == function)
                || (self.system.io_address_spaces.iter()).any(|space| space.function == function);
            if in_use {
                self.diagnostics.error(
                    role.at,
                    format!("{name} is in use by somebody else: leave it out of functions"),
                );
                return None;
            }
            let Some(registers) = entry.vf_bar(index, REGISTERS_BAR) else {
                self.diagnostics.error(
                    role.at,
                    format!("{name} has no registers to grant: write vf_bar0 and vf_bar0_size into the <pci_device>"),
                );
                return None;
            };
            if registers.size != WINDOW_SIZE as u64 {
                self.diagnostics.error(
                    role.at,
                    format!(
                        "{name} has registers of {:#x} bytes, the driver knows {WINDOW_SIZE:#x}",
                        registers.size
                    ),
                );
                return None;
            }
            let region =
                self.generated_region(format!("{name}.registers"), registers.size, role.at)?;
            let described = &mut self.system.regions[region.0];
            described.physical_address = Some(registers.address);
            described.is_granted = true;
            self.regions[region.0].bar = self.bar_of(role.device, index, REGISTERS_BAR);
            let vectors = [0, 1].map(|handle| {
                let vector = self.free_vector(role.at)?;
                self.messages.insert((function, handle), role.at);
                Some(vector)
            });
            functions.push(GrantedFunction {
                number,
                function,
                region,
                vectors: [vectors[0]?, vectors[1]?],
            });
        }
        Some(functions)
    }

    /// The highest vector that nobody has.
    pub(super) fn free_vector(&mut self, at: usize) -> Option<u8> {
        let last = segue_system_image::format::clock::VECTOR - 1;
        let free = (0..=last)
            .rev()
            .find(|vector| !self.vectors.contains_key(vector));
        match free {
            Some(vector) => {
                self.vectors.insert(vector, at);
            }
            None => self
                .diagnostics
                .error(at, "all vectors are taken: remove an interrupt"),
        }
        free
    }

    /// A VT-d domain that no IO address space has.
    pub(super) fn free_domain_id(&self, number: u8) -> u16 {
        let taken = |id: &u16| {
            let spaces = self.system.io_address_spaces.iter();
            spaces
                .map(|space| space.domain_id)
                .any(|other| other == *id)
        };
        // Each function gets one out of its own 256.
        let first = 0x8000 + u16::from(number) * 256;
        (first..first + 256).find(|id| !taken(id)).unwrap_or(first)
    }

    /// The virtual function by which the network server reaches the network.
    fn server_function(&mut self, role: &Role, all: &[Wanted]) -> Option<u32> {
        let Some(wanted) = all.first() else {
            return Some(0);
        };
        let pool = wanted.channel.pool;
        let space = self
            .system
            .io_address_spaces
            .iter()
            .find(|space| space.maps.iter().any(|map| map.region == pool));
        let function = space.map(|space| requester_id(space.function))?;
        let entry = &self.devices[role.device].entry;
        let Some(index) = virtual_index(entry, function) else {
            let message = format!(
                "the network server uses no virtual function of \"{}\": its applications cannot be moved there",
                self.devices[role.device].name
            );
            self.diagnostics.error(role.at, message);
            return None;
        };
        Some(index as u32)
    }

    /// The MAC addresses of all who are behind a network server.
    fn inside_addresses(&mut self, server: Option<PdIndex>) -> Option<Vec<[u8; 6]>> {
        let mut addresses: Vec<[u8; 6]> = Vec::new();
        let channels = self.system.frame_channels.iter();
        for channel in channels.filter(|channel| Some(channel.server) == server) {
            match channel.address_pool {
                Some(pool) => {
                    let members = self.pools[pool].entry.members();
                    addresses.extend(members.map(|member| member.mac));
                }
                None => addresses.push(channel.addresses.mac),
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > MAXIMUM_INSIDE {
            let at = self.machine_at;
            self.diagnostics.error(
                at,
                format!(
                    "there are {} MAC addresses behind the network server, direct mode knows {MAXIMUM_INSIDE}: make the pools smaller",
                    addresses.len()
                ),
            );
            return None;
        }
        Some(addresses)
    }

    /// A region that one writes and others read, at one address in all of them.
    fn region_of_one(
        &mut self,
        name: &str,
        size: usize,
        writer: usize,
        readers: &[usize],
        at: usize,
    ) -> Option<Shared> {
        let size = size as u64;
        let users: Vec<usize> = std::iter::once(writer)
            .chain(readers.iter().copied().filter(|reader| *reader != writer))
            .collect();
        let spaces: Vec<_> = users
            .iter()
            .map(|user| &self.domains[*user].spans)
            .collect();
        let Some(address) = generated_address(&spaces, size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.into(), size, at)?;
        for user in users {
            self.domains[user]
                .spans
                .insert(address..address + size, name, Some(at));
            self.system.protection_domains[user].maps.push(Map {
                region,
                address,
                writable: user == writer,
                cached: true,
            });
        }
        Some(Shared { region, address })
    }

    /// A channel over which both may notify; the ids at both ends.
    pub(super) fn channel_between(
        &mut self,
        one: usize,
        other: usize,
        at: usize,
    ) -> Option<(u8, u8)> {
        let ids = (self.generated_id(one, at), self.generated_id(other, at));
        let (one_id, other_id) = (ids.0?, ids.1?);
        let end = |pd: usize, id: u8| ChannelEnd {
            pd: PdIndex(pd),
            id,
            protected_calls: false,
            notify: true,
        };
        self.system.channels.push(Channel {
            ends: [end(one, one_id), end(other, other_id)],
        });
        Some((one_id, other_id))
    }
}
