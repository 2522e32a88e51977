//! Values written over symbols of programs.

use super::Draft;
use super::value::Value;
use crate::diagnostics::suggestion;
use crate::model::Patch;
use crate::number::show_size;
use crate::program::Lookup;

/// Why a symbol is written.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    /// The description says so with setvar.
    Variable,
    /// An extension needs it.
    Table {
        /// The element that needs it.
        element: &'static str,
        /// What the program must declare.
        declare: &'static str,
    },
    /// Fault injection needs it, which programs have if they are built for it.
    FaultInjection,
    /// The runtime needs it.
    Runtime,
}

/// Symbols that extensions set.
const OF_EXTENSIONS: [&str; 23] = [
    "log_ring",
    "log_rings",
    "pci_devices",
    "mac_filters",
    "frame_channels",
    "frame_channel",
    "port_owners",
    "address_pools",
    "director_table",
    "director_board",
    "switchable",
    "direct_mode",
    "grants",
    "routes",
    "images",
    "init_orders",
    "init_orderer",
    "fault_injection",
    "faulty_domains",
    "staging",
    "staging_size",
    "serials",
    "upgrades",
];

/// Whether the builder sets this symbol itself.
fn is_of_builder(symbol: &str) -> bool {
    symbol.starts_with("microkit_") || OF_EXTENSIONS.contains(&symbol)
}

/// Bytes of a variable.
const VARIABLE_SIZE: usize = 8;

impl Draft<'_, '_> {
    /// Sets the 8-byte variable that `symbol` names.
    pub(super) fn set_variable(&mut self, domain: usize, symbol: Value<'_>, value: u64) {
        self.patch(
            domain,
            symbol.at,
            symbol.text,
            value.to_le_bytes().to_vec(),
            Reason::Variable,
        );
    }

    /// Has the back end set the variable to the size of the symbol tables.
    pub(super) fn set_symbols_size(&mut self, domain: usize, symbol: Value<'_>) {
        if self.check_symbol(
            domain,
            symbol.at,
            symbol.text,
            VARIABLE_SIZE,
            Reason::Variable,
        ) {
            self.system.protection_domains[domain]
                .symbols_size_patches
                .push(symbol.text.into());
        }
    }

    /// Writes `bytes` over `symbol`; returns whether that is possible.
    pub(super) fn patch(
        &mut self,
        domain: usize,
        at: usize,
        symbol: &str,
        bytes: Vec<u8>,
        reason: Reason,
    ) -> bool {
        let fits = self.check_symbol(domain, at, symbol, bytes.len(), reason);
        if fits {
            self.system.protection_domains[domain].patches.push(Patch {
                symbol: symbol.into(),
                bytes,
            });
        }
        fits
    }

    /// Whether a program has `symbol` in this size, and nobody else sets it; says what is wrong.
    pub(super) fn check_symbol(
        &mut self,
        domain: usize,
        at: usize,
        symbol: &str,
        size: usize,
        reason: Reason,
    ) -> bool {
        if is_of_builder(symbol) && matches!(reason, Reason::Variable) {
            self.diagnostics.error(
                at,
                format!("the image builder sets the symbol \"{symbol}\" itself: name another"),
            );
            return false;
        }
        let notes = &mut self.domains[domain];
        let name = &self.system.protection_domains[domain].name;
        if let Some(first) = notes.patched.insert(symbol.into(), at) {
            let line = self.diagnostics.line(first);
            self.diagnostics.error(
                at,
                format!(
                    "the symbol \"{symbol}\" of \"{name}\" is already set in line {line}: a symbol has one value"
                ),
            );
            return false;
        }
        // A program that cannot be read has been reported.
        let Some(program) = &notes.program else {
            return false;
        };
        let path = &notes.program_path;
        let problem = match program.symbol(symbol) {
            Lookup::Found(found) if found.size == size as u64 => return true,
            Lookup::Found(found) => match reason {
                Reason::Variable => format!(
                    "the symbol \"{symbol}\" of the program \"{path}\" has {}: a variable that the description sets has 8",
                    show_size(found.size)
                ),
                Reason::Table { .. } | Reason::FaultInjection | Reason::Runtime => format!(
                    "the symbol \"{symbol}\" of the program \"{path}\" has {} but needs {}: build the program again",
                    show_size(found.size),
                    show_size(size as u64)
                ),
            },
            Lookup::Ambiguous => format!(
                "the program \"{path}\" has several symbols \"{symbol}\": rename all but one"
            ),
            Lookup::NotLoaded => format!(
                "the symbol \"{symbol}\" of the program \"{path}\" is not in memory that is loaded"
            ),
            Lookup::Missing => match reason {
                Reason::Variable => {
                    let own = program.symbol_names().filter(|name| !is_of_builder(name));
                    let hint = suggestion(symbol, own);
                    let hint = match hint.starts_with(": did") {
                        true => hint,
                        false => format!(": declare var!({symbol}: u64 = 0) there"),
                    };
                    format!("the program \"{path}\" has no symbol \"{symbol}\"{hint}")
                }
                Reason::Table { element, declare } => format!(
                    "<{element}> needs the symbol \"{symbol}\" in the program \"{path}\" of \"{name}\": declare var!({declare}) there"
                ),
                Reason::FaultInjection => format!(
                    "<fault_injection> needs the symbol \"{symbol}\" in the program \"{path}\" of \"{name}\": take the programs that are built for it (make faulty-programs)"
                ),
                Reason::Runtime => format!(
                    "the program \"{path}\" has no symbol \"{symbol}\": link it with sel4-microkit, which declares it"
                ),
            },
        };
        self.diagnostics.error(at, problem);
        false
    }

    /// Sets what the runtime of each program knows of its protection domain:
    /// its name and its ids, as bit masks.
    pub(super) fn patch_runtime(&mut self) {
        for domain in 0..self.domains.len() {
            let mut notifications = 0_u64;
            let mut calls = 0_u64;
            for end in self
                .system
                .channels
                .iter()
                .flat_map(|channel| &channel.ends)
            {
                if end.pd.0 == domain {
                    notifications |= u64::from(end.notify) << end.id;
                    calls |= u64::from(end.protected_calls) << end.id;
                }
            }
            let described = &self.system.protection_domains[domain];
            let interrupts = described
                .irqs
                .iter()
                .fold(0, |mask, irq| mask | 1 << irq.id);
            let io_ports = described
                .io_ports
                .iter()
                .fold(0, |mask, ports| mask | 1 << ports.id);
            let mut name = [0; NAME_SIZE];
            for (byte, letter) in name[..NAME_SIZE - 1].iter_mut().zip(described.name.bytes()) {
                *byte = letter;
            }
            let at = self.domains[domain].at;
            let masks = [
                ("microkit_irqs", interrupts),
                ("microkit_notifications", notifications),
                ("microkit_pps", calls),
                ("microkit_ioports", io_ports),
            ]
            .map(|(symbol, mask)| (symbol, mask.to_le_bytes().to_vec()));
            let name = ("microkit_name", name.to_vec());
            for (symbol, bytes) in std::iter::once(name).chain(masks) {
                // A program without one of them has none: said once.
                if !self.patch(domain, at, symbol, bytes, Reason::Runtime) {
                    break;
                }
            }
        }
    }
}

/// Bytes of `microkit_name`.
const NAME_SIZE: usize = 64;
