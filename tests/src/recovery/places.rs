//! What a machine's memory says of its protection domains, whoever of them may be dead.

use std::collections::BTreeMap;
use std::io;

use segue_portmap_core::TABLE_SIZE;
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;
use segue_status::crash::{self, CrashReports, Report};
use segue_status::network::{self, Counter, NetworkStatus};
use segue_status::system::{self, SystemStatus};
use sel4_microkit_abi::{IPC_BUFFER_ADDRESS, watch};

use crate::guest_memory::{AddressSpace, GuestMemory};
use crate::instructions::Program;

/// Where the port map sees its table (`system.xml`).
const PORT_TABLE: u64 = 0x1000_0000;
/// Where the port map sees what the network server says of its work.
const NETWORK_STATUS: u64 = 0x1100_0000;
/// Where the console sees the states of all.
pub const SYSTEM_STATUS: u64 = 0x1800_0000;
/// Where the console sees the crash reports.
pub const CRASH_REPORTS: u64 = 0x1900_0000;

/// Where to look.
pub struct Places {
    memory: GuestMemory,
    portmap: AddressSpace,
    console: AddressSpace,
    netserver: AddressSpace,
}

/// When what happened, in microseconds of the time stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    /// The fault that was injected, as far as the protection domain has said so.
    pub fault: Option<u64>,
    /// `init` stopped it.
    pub stopped: u64,
    /// `init` started it again.
    pub started: u64,
    /// It has initialised itself: it handles what comes.
    pub ready: u64,
}

impl Places {
    /// In this memory, when all protection domains have started; `program` gives the program of a name.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn find(memory: GuestMemory, program: impl Fn(&str) -> Program) -> io::Result<Self> {
        // Images that are alike cannot be told apart.
        let netserver = memory.spaces_of(&program("segue-netserver"))?;
        let netserver = netserver.first().copied();
        Ok(Self {
            portmap: memory.space_of(&program("segue-portmap"))?,
            console: memory.space_of(&program("segue-console"))?,
            netserver: netserver.ok_or_else(|| io::Error::other("no network server runs"))?,
            memory,
        })
    }

    /// The memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The console's address space.
    pub fn console(&self) -> AddressSpace {
        self.console
    }

    /// The network server's address space, or that of one of its images if it has several.
    pub fn netserver(&self) -> AddressSpace {
        self.netserver
    }

    /// The states of all protection domains.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn status(&self) -> io::Result<SystemStatus> {
        let region = self.region(SYSTEM_STATUS, system::REGION_SIZE)?;
        SystemStatus::new(region).ok_or_else(|| io::Error::other("the region is too small"))
    }

    /// The owner of each port that has one, by the port's place in the table.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn ports(&self) -> io::Result<BTreeMap<usize, u16>> {
        let mut bytes = vec![0; TABLE_SIZE];
        self.portmap.read(&self.memory, PORT_TABLE, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<2>();
        let owners = words.iter().map(|word| u16::from_le_bytes(*word));
        Ok(owners
            .enumerate()
            .filter(|(_, owner)| *owner != 0)
            .collect())
    }

    /// The last events that the network server has noted, for people.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn work_of_netserver(&self) -> io::Result<String> {
        let mut report = Report::empty();
        let page = IPC_BUFFER_ADDRESS + watch::START as u64;
        self.netserver.read(&self.memory, page, &mut report.watch)?;
        let place = IPC_BUFFER_ADDRESS + watch::ACTIVITY as u64;
        let place = self.netserver.translate(&self.memory, place)?;
        let mut text = format!("activity {}\n", self.memory.word(place)?);
        for event in report.events() {
            text += &format!("{} {event}\n", event.time);
        }
        Ok(text)
    }

    /// When what happened around the last restart of the network server; `None` if there was none.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn instants_of_netserver(&self) -> io::Result<Option<Instants>> {
        let status = self.status()?;
        let name = "netserver";
        let domain = status.find(name).and_then(|index| status.domain(index));
        let Some(domain) = domain.filter(|domain| domain.restarts > 0) else {
            return Ok(None);
        };
        let reports = self.region(CRASH_REPORTS, crash::REGION_SIZE)?;
        let reports = CrashReports::new(reports);
        let reports = reports.ok_or_else(|| io::Error::other("the region is too small"))?;
        let mut report = Report::empty();
        let mut numbers = (1..=reports.count()).rev();
        let is_there =
            numbers.any(|number| reports.read(number, &mut report) && report.name() == name);
        if !is_there {
            return Ok(None);
        }
        let megahertz = u64::from(report.tsc_megahertz.max(1));
        let injected = report.events().filter(|event| event.name == *b"injected");
        let fault = injected.last().map(|event| event.time / megahertz);
        // What it has noted since.
        let page = IPC_BUFFER_ADDRESS + watch::READY as u64;
        let place = self.netserver.translate(&self.memory, page)?;
        let ready = self.memory.word(place)? / megahertz;
        Ok(Some(Instants {
            fault,
            stopped: report.time,
            started: domain.started,
            ready: ready.max(domain.started),
        }))
    }

    /// What the network server says of its work for each application, for people.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn channels(&self) -> io::Result<String> {
        let region = self.seen_by(self.portmap, NETWORK_STATUS, network::REGION_SIZE)?;
        let status = NetworkStatus::new(region);
        let status = status.ok_or_else(|| io::Error::other("the region is too small"))?;
        let applications = (0..status.count()).filter_map(|index| status.application(index));
        let mut text = String::new();
        for application in applications {
            text += &format!(
                "{}: {:?}",
                network::name_text(&application.name()),
                application.state()
            );
            for counter in [
                Counter::TransmittedFrames,
                Counter::ReceivedFrames,
                Counter::ReceiveDropped,
                Counter::NotificationsSent,
                Counter::NotificationsReceived,
                Counter::Epochs,
            ] {
                text += &format!(" {counter:?} {}", application.counter(counter));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// A copy of what the console sees at an address.
    fn region(&self, address: u64, length: usize) -> io::Result<Region> {
        self.seen_by(self.console, address, length)
    }

    fn seen_by(&self, space: AddressSpace, address: u64, length: usize) -> io::Result<Region> {
        let mut bytes = vec![0; length];
        space.read(&self.memory, address, &mut bytes)?;
        let region = leaked_region(length);
        region.write(0, &bytes);
        Ok(region)
    }
}
