//! What must be the same before and after.

use std::collections::BTreeMap;
use std::io;

use segue_portmap_core::TABLE_SIZE;
use segue_shared_memory::testing::leaked_region;
use segue_status::system::{REGION_SIZE, State, SystemStatus};

use crate::TestMachine;
use crate::guest_memory::{AddressSpace, GuestMemory};
use crate::instructions::Program;
use crate::switching::Modes;

/// Where the port map sees its table, and the console the states of all (`system.xml`).
const PORT_TABLE: u64 = 0x1000_0000;
const SYSTEM_STATUS: u64 = 0x1800_0000;

/// Where to look for it: in the memory of a machine, whoever of it may be dead.
pub struct Places {
    memory: GuestMemory,
    portmap: AddressSpace,
    console: AddressSpace,
}

impl Places {
    /// In this memory, when all protection domains have started; `program` gives the program of a name.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn find(memory: GuestMemory, program: impl Fn(&str) -> Program) -> io::Result<Self> {
        Ok(Self {
            portmap: memory.space_of(&program("segue-portmap"))?,
            console: memory.space_of(&program("segue-console"))?,
            memory,
        })
    }

    /// The memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The states of all protection domains.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn status(&self) -> io::Result<SystemStatus> {
        let mut bytes = vec![0; REGION_SIZE];
        self.console.read(&self.memory, SYSTEM_STATUS, &mut bytes)?;
        let region = leaked_region(REGION_SIZE);
        region.write(0, &bytes);
        SystemStatus::new(region).ok_or_else(|| io::Error::other("the region is too small"))
    }

    /// The owner of each port that has one, by the port's place in the table.
    fn ports(&self) -> io::Result<BTreeMap<usize, u16>> {
        let mut bytes = vec![0; TABLE_SIZE];
        self.portmap.read(&self.memory, PORT_TABLE, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<2>();
        let owners = words.iter().map(|word| u16::from_le_bytes(*word));
        Ok(owners
            .enumerate()
            .filter(|(_, owner)| *owner != 0)
            .collect())
    }
}

/// What nobody may lose or keep by dying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Owners of ports.
    ports: BTreeMap<usize, u16>,
    /// Holders of virtual functions.
    functions: BTreeMap<u8, Option<String>>,
    /// Bytes of memory that nobody has.
    free_memory: u64,
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
            domains: domains.collect(),
        })
    }
}
