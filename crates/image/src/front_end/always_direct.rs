//! Applications that drive a virtual function from the start, for good, without a
//! network server: the function's registers, its interrupts, its IO address space and
//! its addresses become plain parts of the system.

use roxmltree::Node;
use segue_director_core::config::{DirectConfig, NO_CHANNEL};
use segue_frame_channel::config::{Addresses, ClientConfig};
use zerocopy::IntoBytes;

use super::devices::{model_function, requester_id, virtual_index};
use super::filters::{ALL_NODES, solicited_node};
use super::layout::generated_address;
use super::patches::Reason;
use super::references::BarReference;
use super::references::Function;
use super::value::attribute;
use super::{Draft, SpaceNotes};
use crate::model::{IoAddressSpace, IoMap, Irq, IrqSource, Map, PciFunction};

/// An `<always_direct>` element, read and checked.
struct Wanted {
    at: usize,
    client: usize,
    device: usize,
    number: usize,
    function: PciFunction,
    memory_size: u64,
    addresses: Addresses,
}

impl Draft<'_, '_> {
    pub(super) fn expand_always_direct(&mut self, nodes: &[Node<'_, '_>]) {
        for &node in nodes {
            if let Some(wanted) = self.read_always_direct(node) {
                // What is missing has been reported.
                let _ = self.expand_function_user(&wanted);
            }
        }
    }

    fn read_always_direct(&mut self, node: Node<'_, '_>) -> Option<Wanted> {
        let at = node.range().start;
        let value = attribute(node, "application")?;
        let client = self.find_domain(value);
        let function_value = attribute(node, "function")?;
        let function = self.function(function_value);
        let memory_size = self.direct_memory(node);
        let ipv4 = self.read_ipv4(node);
        let ipv6 = self.read_ipv6(node);
        let (client, function) = (client?, function?);
        let id = requester_id(function);
        let found = self
            .devices
            .iter()
            .enumerate()
            .find_map(|(device, notes)| Some((device, virtual_index(&notes.entry, id)?)));
        let Some((device, number)) = found else {
            self.diagnostics.error(
                function_value.at,
                format!(
                    "{}=\"{}\" is no virtual function: write one like nic.vf1",
                    function_value.name, function_value.text
                ),
            );
            return None;
        };
        let Some(mac) = self.devices[device].entry.vf_mac(number) else {
            let name = self.devices[device].name.clone();
            self.diagnostics.error(
                function_value.at,
                format!(
                    "virtual function {number} of \"{name}\" has no MAC address: add <vf index=\"{number}\" mac=\"...\"/> to its <pci_device>"
                ),
            );
            return None;
        };
        let has_channel = self
            .system
            .frame_channels
            .iter()
            .any(|channel| channel.client.0 == client);
        if has_channel {
            let message = format!(
                "\"{}\" has a frame channel, so it is not always direct: write <direct_mode>, or remove one",
                self.domain_name(client)
            );
            self.diagnostics.error(value.at, message);
            return None;
        }
        let in_use = self.messages.keys().any(|(of, _)| *of == function)
            || (self.system.io_address_spaces.iter()).any(|space| space.function == function);
        if in_use {
            self.diagnostics.error(
                function_value.at,
                format!(
                    "{} is in use by somebody else: write another",
                    function_value.text
                ),
            );
            return None;
        }
        let (ipv4, ipv4_prefix_length, gateway) = ipv4?;
        let (ipv6, ipv6_prefix_length, ipv6_gateway) = ipv6?;
        Some(Wanted {
            at,
            client,
            device,
            number,
            function,
            memory_size: memory_size?,
            addresses: Addresses {
                mac,
                ipv4_prefix_length,
                ipv6_prefix_length,
                ipv4,
                gateway,
                ipv6,
                ipv6_gateway,
            },
        })
    }

    /// The registers in BAR `bar` of a virtual function, as a reference names them.
    pub(super) fn bar_of(
        &self,
        device: usize,
        function: usize,
        bar: usize,
    ) -> Option<BarReference> {
        let placement = self.devices[device].entry.vf_bar(function, bar)?;
        Some(BarReference {
            device,
            function: Function::Virtual(function),
            bar,
            size: Some(placement.size),
        })
    }

    fn expand_function_user(&mut self, wanted: &Wanted) -> Option<()> {
        let Wanted { at, client, .. } = *wanted;
        let name = self.domain_name(client).to_string();
        let owner = self.devices[wanted.device].owner?;
        let entry = self.devices[wanted.device].entry;
        let Some(registers) = entry.vf_bar(wanted.number, 0) else {
            self.diagnostics.error(
                at,
                "the function has no registers: write vf_bar0 and vf_bar0_size into the <pci_device>",
            );
            return None;
        };
        let window = self.map_own(client, &format!("{name}.registers"), registers.size, at)?;
        let described = &mut self.system.regions[window.0];
        described.physical_address = Some(registers.address);
        self.regions[window.0].bar = self.bar_of(wanted.device, wanted.number, 0);
        if let Some(map) = self.system.protection_domains[client].maps.last_mut() {
            map.cached = false;
        }
        let window_address = self.last_address(client)?;
        let memory = self.map_own(client, &format!("{name}.direct"), wanted.memory_size, at)?;
        let memory_address = self.last_address(client)?;
        self.spaces.push(SpaceNotes {
            function_known: true,
            ..SpaceNotes::default()
        });
        self.system.io_address_spaces.push(IoAddressSpace {
            name: format!("{name}.io"),
            function: wanted.function,
            domain_id: self.free_domain_id(wanted.number as u8),
            maps: vec![IoMap {
                region: memory,
                address: memory_address,
                writable: true,
            }],
        });
        let mut interrupts = [NO_CHANNEL; 2];
        for (handle, interrupt) in interrupts.iter_mut().enumerate() {
            let id = self.generated_id(client, at)?;
            let vector = self.free_vector(at)?;
            let handle = handle as u16;
            self.messages.insert((wanted.function, handle), at);
            *interrupt = id.into();
            self.system.protection_domains[client].irqs.push(Irq {
                id,
                vector,
                source: IrqSource::Msi {
                    function: wanted.function,
                    handle,
                },
            });
        }
        let (owner_channel, channel) = self.channel_between(owner, client, at)?;
        let reason = |declare| Reason::Table {
            element: "always_direct",
            declare,
        };
        let user = format!("vf{}_user", wanted.number);
        self.patch(
            owner,
            at,
            &user,
            u64::from(owner_channel).to_le_bytes().to_vec(),
            reason("vf1_user: u64 = u64::MAX"),
        );
        let direct = DirectConfig {
            interrupts,
            owner_channel: channel.into(),
            window: window_address,
            memory: memory_address,
            memory_size: wanted.memory_size,
            ..DirectConfig::EMPTY
        };
        self.patch(
            client,
            at,
            "direct_mode",
            direct.as_bytes().to_vec(),
            reason("direct_mode: DirectConfig = DirectConfig::EMPTY"),
        );
        let config = ClientConfig {
            addresses: wanted.addresses,
            flags: segue_frame_channel::config::ADDRESS_OWN,
            ..ClientConfig::EMPTY
        };
        self.patch(
            client,
            at,
            "frame_channel",
            config.as_bytes().to_vec(),
            reason("frame_channel: ClientConfig = ClientConfig::EMPTY"),
        );
        let device = &mut self.devices[wanted.device];
        let own = wanted.addresses;
        let mut groups = vec![ALL_NODES, solicited_node(own.link_local())];
        if own.ipv6 != [0; 16] {
            groups.push(solicited_node(own.ipv6));
        }
        for group in groups {
            if !device.filters.contains(&(group, wanted.number)) {
                device.filters.push((group, wanted.number));
            }
        }
        debug_assert_eq!(
            model_function(entry.vf_requester_id(wanted.number)?),
            wanted.function
        );
        Some(())
    }

    /// Makes a region that one protection domain alone has, and maps it.
    fn map_own(
        &mut self,
        domain: usize,
        name: &str,
        size: u64,
        at: usize,
    ) -> Option<crate::model::RegionIndex> {
        let Some(address) = generated_address(&[&self.domains[domain].spans], size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.into(), size, at)?;
        self.domains[domain]
            .spans
            .insert(address..address + size, name, Some(at));
        self.system.protection_domains[domain].maps.push(Map {
            region,
            address,
            writable: true,
            cached: true,
        });
        Some(region)
    }

    fn last_address(&self, domain: usize) -> Option<u64> {
        let maps = &self.system.protection_domains[domain].maps;
        maps.last().map(|map| map.address)
    }
}
