//! The elements and attributes that exist, and those that are refused.

use roxmltree::{Document, Node, NodeType};

use crate::diagnostics::{Diagnostics, suggestion};

/// One kind of element.
pub(crate) struct Kind {
    /// Its name.
    pub(crate) name: &'static str,
    /// Attributes it must have.
    pub(crate) required: &'static [&'static str],
    /// Attributes it may have.
    pub(crate) optional: &'static [&'static str],
    /// Attributes of Microkit that are refused, and the sentence that says so.
    pub(crate) refused: &'static [(&'static str, &'static str)],
    /// Elements it may hold.
    pub(crate) children: &'static [&'static str],
}

/// Elements of Microkit that are refused, and the sentence that says so.
const REFUSED_ELEMENTS: &[(&str, &str)] = &[
    (
        "domains",
        "this kernel is built with one scheduling domain: remove it",
    ),
    (
        "virtual_machine",
        "this kernel is built without virtual machines: remove it",
    ),
    (
        "vcpu",
        "this kernel is built without virtual machines: remove it",
    ),
    (
        "cspace",
        "no protection domain may hold capabilities of another: remove it",
    ),
];

/// What a protection domain inside another is told.
const NESTED: &str = "a protection domain cannot hold another, since init handles the faults of all: move it to the top";

const NO_BUDGETS: &str =
    "this kernel has no scheduling contexts (it is not MCS), only priorities: remove it";

/// All elements.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "system",
        required: &[],
        optional: &[],
        refused: &[],
        children: &[
            "machine",
            "console",
            "pci_device",
            "memory_region",
            "io_address_space",
            "protection_domain",
            "address_pool",
            "frame_channel",
            "director",
            "direct_mode",
            "always_direct",
            "updater",
            "channel",
            "fault_injection",
        ],
    },
    Kind {
        name: "machine",
        required: &["memory"],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "console",
        required: &["pd"],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "pci_device",
        required: &[
            "name",
            "peripheral_id",
            "vendor_id",
            "device_id",
            "manager",
            "owner",
        ],
        optional: &[
            "bar0",
            "bar1",
            "bar2",
            "bar3",
            "bar4",
            "bar5",
            "vfs",
            "vf_offset",
            "vf_stride",
            "vf_bar0",
            "vf_bar1",
            "vf_bar2",
            "vf_bar3",
            "vf_bar4",
            "vf_bar5",
            "vf_bar0_size",
            "vf_bar1_size",
            "vf_bar2_size",
            "vf_bar3_size",
            "vf_bar4_size",
            "vf_bar5_size",
        ],
        refused: &[],
        children: &["vf"],
    },
    Kind {
        name: "vf",
        required: &["index", "mac"],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "memory_region",
        required: &["name"],
        optional: &[
            "size",
            "page_size",
            "phys_addr",
            "prefill_path",
            "prefill_bootinfo",
            "prefill_segue",
            "prefill_directory",
        ],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "io_address_space",
        required: &["name", "peripheral_id", "domain_id"],
        optional: &[],
        refused: &[],
        children: &["iomap"],
    },
    Kind {
        name: "iomap",
        required: &["mr", "iovaddr"],
        optional: &["perms"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "protection_domain",
        required: &["name"],
        optional: &[
            "priority",
            "stack_size",
            "cpu",
            "fpu",
            "restart",
            "restart_limit",
            "restart_backoff_ms",
            "heartbeat_ms",
        ],
        refused: &[
            ("budget", NO_BUDGETS),
            ("period", NO_BUDGETS),
            (
                "passive",
                "a passive protection domain needs scheduling contexts, which this kernel does not have (it is not MCS): remove it",
            ),
            (
                "domain",
                "this kernel is built with one scheduling domain: remove it",
            ),
            ("smc", "secure monitor calls exist on Arm only: remove it"),
            ("id", NESTED),
            ("setvar_id", NESTED),
        ],
        children: &[
            "program_image",
            "alternative_image",
            "sent_image",
            "map",
            "irq",
            "ioport",
            "setvar",
        ],
    },
    Kind {
        name: "alternative_image",
        required: &["path"],
        optional: &["name"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "sent_image",
        required: &["size"],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "program_image",
        required: &["path"],
        optional: &["name"],
        refused: &[(
            "path_for_symbols",
            "symbols are read from the program itself: remove it, and do not strip the program",
        )],
        children: &[],
    },
    Kind {
        name: "map",
        required: &["mr", "vaddr"],
        optional: &[
            "perms",
            "cached",
            "setvar_vaddr",
            "setvar_size",
            "setvar_prefill_size",
        ],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "irq",
        required: &["id", "vector"],
        optional: &[
            "pin",
            "ioapic",
            "trigger",
            "polarity",
            "pcidev",
            "handle",
            "setvar_id",
        ],
        refused: &[(
            "irq",
            "interrupt numbers without a vector exist on Arm and RISC-V only: write pin and vector",
        )],
        children: &[],
    },
    Kind {
        name: "ioport",
        required: &["id", "addr", "size"],
        optional: &["setvar_id", "setvar_addr"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "setvar",
        required: &["symbol"],
        optional: &["region_paddr", "value", "ipv4", "mac"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "channel",
        required: &[],
        optional: &[],
        refused: &[],
        children: &["end"],
    },
    Kind {
        name: "end",
        required: &["pd", "id"],
        optional: &["pp", "notify", "setvar_id"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "frame_channel",
        required: &[
            "server",
            "client",
            "portmap",
            "io_address_space",
            "pool_size",
        ],
        optional: &[
            "transmit_entries",
            "receive_entries",
            "mac",
            "ipv4",
            "gateway",
            "ipv6",
            "ipv6_gateway",
            "address_pool",
            "dhcp_client",
            "verify_checksums",
        ],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "director",
        required: &["pd", "device", "functions"],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "direct_mode",
        required: &["application"],
        optional: &["functions", "memory_size", "start"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "always_direct",
        required: &["application", "function", "ipv4"],
        optional: &["memory_size", "gateway", "ipv6", "ipv6_gateway"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "fault_injection",
        required: &[],
        optional: &[],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "updater",
        required: &["pd", "public_key"],
        optional: &["serial"],
        refused: &[],
        children: &[],
    },
    Kind {
        name: "address_pool",
        required: &["name", "mac", "ipv4", "count"],
        optional: &["gateway", "ipv6", "ipv6_gateway"],
        refused: &[],
        children: &[],
    },
];

fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Reports every unknown, refused and missing element and attribute. Returns
/// the elements of the top level that are worth reading on.
pub(crate) fn check<'a, 'input>(
    document: &'a Document<'input>,
    diagnostics: &mut Diagnostics<'_>,
) -> Vec<Node<'a, 'input>> {
    let root = document.root_element();
    if root.tag_name().name() != "system" || root.tag_name().namespace().is_some() {
        diagnostics.error(
            root.range().start,
            format!(
                "<{}> is not a system description: write <system>",
                root.tag_name().name()
            ),
        );
        return Vec::new();
    }
    let Some(system) = kind("system") else {
        return Vec::new();
    };
    check_element(root, system, diagnostics);
    root.children()
        .filter(|node| node.is_element() && system.children.contains(&node.tag_name().name()))
        .collect()
}

fn check_element(node: Node<'_, '_>, kind: &Kind, diagnostics: &mut Diagnostics<'_>) {
    check_attributes(node, kind, diagnostics);
    for child in node.children() {
        let at = child.range().start;
        match child.node_type() {
            NodeType::Element => {}
            NodeType::Text if child.text().is_some_and(|text| !text.trim().is_empty()) => {
                let text = child.text().unwrap_or_default();
                let blank = text.len() - text.trim_start().len();
                diagnostics.error(
                    at + blank,
                    format!(
                        "text does not belong into <{}>: make it a comment or remove it",
                        kind.name
                    ),
                );
                continue;
            }
            NodeType::PI => {
                diagnostics.error(at, "processing instructions mean nothing here: remove it");
                continue;
            }
            _ => continue,
        }
        let name = child.tag_name().name();
        let known = self::kind(name)
            .filter(|_| kind.children.contains(&name) && child.tag_name().namespace().is_none());
        match known {
            Some(known) => check_element(child, known, diagnostics),
            None if child.tag_name().namespace().is_some() => diagnostics.error(
                at,
                format!("<{name}> has a namespace, which no element here has: remove it"),
            ),
            None => diagnostics.error(at, misplaced(name, kind)),
        }
    }
}

fn misplaced(name: &str, parent: &Kind) -> String {
    let parent_name = parent.name;
    if name == "protection_domain" && parent_name == name {
        return NESTED.into();
    }
    if let Some((_, why)) = REFUSED_ELEMENTS
        .iter()
        .find(|(refused, _)| *refused == name)
    {
        return format!("<{name}>: {why}");
    }
    let homes: Vec<String> = KINDS
        .iter()
        .filter(|kind| kind.children.contains(&name))
        .map(|kind| format!("<{}>", kind.name))
        .collect();
    if !homes.is_empty() {
        return format!(
            "<{name}> does not belong into <{parent_name}>: move it into {}",
            homes.join(" or ")
        );
    }
    if parent.children.is_empty() {
        return format!("unknown element <{name}>: <{parent_name}> holds no elements");
    }
    format!(
        "unknown element <{name}> in <{parent_name}>{}",
        suggestion(name, parent.children.iter().copied())
    )
}

fn check_attributes(node: Node<'_, '_>, kind: &Kind, diagnostics: &mut Diagnostics<'_>) {
    for attribute in node.attributes() {
        let name = attribute.name();
        let at = attribute.range().start;
        if let Some((_, why)) = kind.refused.iter().find(|(refused, _)| *refused == name) {
            diagnostics.error(at, format!("attribute \"{name}\": {why}"));
            continue;
        }
        let known = kind.required.contains(&name) || kind.optional.contains(&name);
        if !known || attribute.namespace().is_some() {
            let names = kind.required.iter().chain(kind.optional).copied();
            let hint = match kind.required.len() + kind.optional.len() {
                0 => ": it has no attributes".into(),
                _ => suggestion(name, names),
            };
            diagnostics.error(
                at,
                format!("unknown attribute \"{name}\" in <{}>{hint}", kind.name),
            );
        }
    }
    for name in kind.required {
        if node.attribute(*name).is_none() {
            diagnostics.error(
                node.range().start,
                format!("<{}> needs the attribute \"{name}\"", kind.name),
            );
        }
    }
}
