//! What must be the same before and after.

use std::collections::BTreeMap;
use std::io;

use segue_status::system::State;

use super::Places;
use crate::TestMachine;
use crate::switching::Modes;

/// What nobody may lose or keep by dying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Owners of ports.
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
    /// If it cannot be had.
    pub fn take(machine: &mut TestMachine, places: &Places) -> io::Result<Self> {
        let modes = Modes::ask(machine).map_err(io::Error::other)?;
        modes.consistent().map_err(io::Error::other)?;
        let status = places.status()?;
        let domains = status.domains().map(|domain| {
            let runs = domain.state == State::Running;
            let what = (domain.memory, domain.capabilities, runs);
            (domain.name().to_owned(), what)
        });
        Ok(Self {
            ports: places.ports()?,
            functions: modes.functions,
            free_memory: status.free_memory(),
            free_slots: status.free_slots(),
            domains: domains.collect(),
        })
    }
}
