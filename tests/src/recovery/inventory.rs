//! What must be the same before and after.

use std::collections::BTreeMap;
use std::io;

use segue_status::system::State;

use super::Places;
use crate::TestMachine;
use crate::switching::Modes;

/// Ports that a client chooses (RFC 6335, 6), by their place among the 65,536 of a table.
const DYNAMIC_PORTS: usize = 49_152;
/// Most entries that these take: of the visit that somebody makes inside and the one before, over both
/// versions of IP.
const MOST_DYNAMIC: usize = 4;

/// What nobody may lose or keep by dying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Owners of ports that somebody listens at.
    ports: BTreeMap<usize, u16>,
    /// Holders of virtual functions.
    functions: BTreeMap<u8, Option<String>>,
    /// Bytes of memory that nobody has.
    free_memory: u64,
    /// Capability slots of `init` with nothing in them.
    free_slots: u64,
    /// Bytes and capabilities of each protection domain, and whether it runs.
    domains: BTreeMap<String, (u64, u32, bool)>,
}

impl Inventory {
    /// Of this machine, at whose console somebody can type.
    ///
    /// # Errors
    /// If it cannot be had, or more ports are bound than anybody needs who opens connections: those of
    /// ended ones have leaked.
    pub fn take(machine: &mut TestMachine, places: &Places) -> io::Result<Self> {
        let modes = Modes::ask(machine).map_err(io::Error::other)?;
        modes.consistent().map_err(io::Error::other)?;
        let status = places.status()?;
        let domains = status.domains().map(|domain| {
            let runs = domain.state == State::Running;
            let what = (domain.memory, domain.capabilities, runs);
            (domain.name().to_owned(), what)
        });
        let ports = places.ports()?;
        let is_dynamic = |place: &usize| place % 65_536 >= DYNAMIC_PORTS;
        let dynamic: Vec<usize> = ports.keys().copied().filter(is_dynamic).collect();
        if dynamic.len() > MOST_DYNAMIC {
            return Err(io::Error::other(format!("ports are left: {dynamic:?}")));
        }
        let listening = ports.into_iter().filter(|(place, _)| !is_dynamic(place));
        Ok(Self {
            ports: listening.collect(),
            functions: modes.functions,
            free_memory: status.free_memory(),
            free_slots: status.free_slots(),
            domains: domains.collect(),
        })
    }
}
