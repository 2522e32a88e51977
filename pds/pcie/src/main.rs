//! The protection domain that owns PCI Express configuration space.
//!
//! At the start it makes every device what the system description says: places
//! base address registers, switches virtual functions on, programs MSI-X, allows
//! memory requests; then it tells the owner of the physical function, and again whenever
//! that asks. A device that is not as described is named in a sentence, and the system goes on
//! without it. Then it grants virtual functions to applications, and takes them back,
//! as the director orders ([`grants`]). If it is started anew while others use the device, it
//! takes over what it finds there, and what its predecessor has answered. Never: calls another
//! protection domain, or touches a data path.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod grants;

use grants::{Authority, Functions};
use segue_director_core::board::{ANSWERS_SIZE, Answers, BOARD_SIZE, Board};
use segue_director_core::config::GrantTable;
use segue_director_core::grant_server::GrantServer;
use segue_fault_points::{Point, reached};
use segue_pci_driver::config::{Device, DeviceTable, Interrupt};
use segue_pci_driver::ecam::Ecam;
use segue_pci_driver::set_up::{Found, WindowRequest, interrupt_without_device, set_up};
use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, channel, progress, protection_domain, region,
    region_at, var,
};

struct Pcie {
    devices: Devices,
    /// Told that the functions are in their places.
    function_owner: Channel,
    /// Whether they are.
    placed: bool,
    /// If somebody switches modes in this system.
    grants: Option<Grants>,
}

/// The first device and its configuration space.
struct Devices {
    ecam: Ecam<Region>,
    device: Option<&'static Device>,
}

impl Functions for Devices {
    fn requester(&self, number: u8) -> Option<u16> {
        Some(self.device?.vf_requester_id(number.into())?.0)
    }

    fn set_bus_master(&self, number: u8, on: bool) {
        let id = self
            .device
            .and_then(|device| device.vf_requester_id(number.into()));
        if let Some(function) = id.and_then(|id| self.ecam.function(id.address())) {
            function.set_bus_master(on);
        }
    }
}

/// Orders about grants, and where they come from.
struct Grants {
    table: &'static GrantTable,
    server: GrantServer,
    director: Channel,
}

fn grants() -> Option<Grants> {
    let table = var!(grants: GrantTable = GrantTable::EMPTY);
    if table.count == 0 {
        return None;
    }
    let board = Board::new(region_at!(table.board, BOARD_SIZE as u64))?;
    let answers = Answers::new(region_at!(table.answers, ANSWERS_SIZE as u64))?;
    Some(Grants {
        table,
        server: GrantServer::new(table, board, answers),
        director: Channel::new(table.channel as usize),
    })
}

#[protection_domain]
fn init() -> Pcie {
    let ecam = region!(ecam);
    let ecam = Ecam::new(ecam, ecam.length());
    let grants = grants();
    let table = var!(pci_devices: DeviceTable = DeviceTable::EMPTY);
    let (Some(devices), Some(interrupts)) = (table.devices(), table.interrupts()) else {
        panic!("the table of PCI devices is not one that this program understands");
    };
    // MSI-X tables are mapped here and nowhere else. Either may be absent: then
    // an interrupt that needs it is refused.
    let windows = Windows {
        physical: optional_region(*var!(nic_msix: u64 = 0), *var!(nic_msix_size: u64 = 0)),
        virtuals: optional_region(*var!(vf_msix: u64 = 0), *var!(vf_msix_size: u64 = 0)),
    };

    log_functions(&ecam, devices);
    if let Some((address, interrupt)) = interrupt_without_device(devices, interrupts) {
        log::error!(
            "vector {} is to come from {address}, which is no function of a described device",
            interrupt.vector
        );
    }
    let mut placed = true;
    for (index, device) in devices.iter().enumerate() {
        let window = |request| {
            (index == 0)
                .then(|| windows.find(device, request))
                .flatten()
        };
        // Grants are those of the first device's functions.
        let lent = match (&grants, index) {
            (Some(grants), 0) => grants.table.functions as u16,
            _ => 0,
        };
        match set_up(&ecam, device, interrupts, lent, window, progress) {
            Ok(found) => log_device(device, &found, interrupts),
            Err(error) => {
                log::error!("{error}");
                placed = false;
            }
        }
    }
    let mut pcie = Pcie {
        devices: Devices {
            ecam,
            device: devices.first(),
        },
        function_owner: channel!(function_owner),
        placed,
        grants,
    };
    pcie.tell_owner();
    reached(Point::PcieOwnerTold);
    pcie.recover();
    pcie
}

/// Where the MSI-X tables of the first device are mapped.
struct Windows {
    /// BAR of the physical function.
    physical: Option<Region>,
    /// BARs of all virtual functions, one after the other.
    virtuals: Option<Region>,
}

impl Windows {
    fn find(&self, device: &Device, request: WindowRequest) -> Option<Region> {
        let Some(index) = request.virtual_function else {
            return self.physical?.part(request.offset, request.length);
        };
        let size = usize::try_from(device.vf_bars.get(request.bar)?.size).ok()?;
        let end = request.offset.checked_add(request.length)?;
        let start = index.checked_mul(size)?.checked_add(request.offset)?;
        (end <= size)
            .then(|| self.virtuals?.part(start, request.length))
            .flatten()
    }
}

fn optional_region(address: u64, length: u64) -> Option<Region> {
    (address != 0).then(|| region_at!(address, length))
}

/// One line for each function that shows itself.
fn log_functions(ecam: &Ecam<Region>, devices: &[Device]) {
    for (_, identity) in ecam.functions_on(0) {
        let name = devices
            .iter()
            .find(|device| device.address() == identity.address)
            .map_or("", |device| device.name());
        log::info!(
            "{} {:04x}:{:04x} {}{}{name}",
            identity.address,
            identity.vendor_id,
            identity.device_id,
            identity.kind(),
            if name.is_empty() { "" } else { ": " }
        );
    }
}

/// One line for a device, and one for each of its virtual functions in use.
fn log_device(device: &Device, found: &Found, interrupts: &[Interrupt]) {
    log::info!(
        "{}: registers at {:#x}, {} virtual functions{}",
        device.name(),
        device.bars[0].address,
        device.vf_count,
        if found.adopted { ", found running" } else { "" }
    );
    if found.adopted && found.corrected > 0 {
        log::warn!(
            "{}: {} registers were not as they should be, and were corrected",
            device.name(),
            found.corrected
        );
    }
    for index in 0..usize::from(device.vf_count) {
        let (Some(id), Some(registers)) = (device.vf_requester_id(index), device.vf_bar(index, 0))
        else {
            continue;
        };
        let vectors = interrupts
            .iter()
            .filter(|entry| entry.requester_id == id.0)
            .count();
        if let Some([a, b, c, d, e, f]) = device.vf_mac(index) {
            log::info!(
                "{id} {:04x}:{:04x} virtual function {index} of {}: registers at {:#x}, \
                 {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, interrupts: {vectors}",
                device.vendor_id,
                found.vf_device_id,
                device.name(),
                registers.address
            );
        }
    }
}

impl Pcie {
    /// The owner of the physical function may have been started after it was told, or anew.
    fn tell_owner(&self) {
        if self.placed {
            self.function_owner.notify();
        }
    }

    /// Takes over from a predecessor, if there was one. The director hears of it in any case: an
    /// answer may have been the predecessor's last act.
    fn recover(&mut self) {
        if let Some(grants) = &mut self.grants {
            let mut authority = Authority {
                table: grants.table,
                functions: &self.devices,
            };
            grants.server.recover(&mut authority);
            grants.server.serve(&mut authority);
            grants.director.notify();
        }
    }

    /// Carries out what the director has ordered.
    fn serve(&mut self) {
        if let Some(grants) = &mut self.grants {
            let mut authority = Authority {
                table: grants.table,
                functions: &self.devices,
            };
            if grants.server.serve(&mut authority) {
                reached(Point::PcieOrderAnswered);
                grants.director.notify();
            }
        }
    }
}

impl Handler for Pcie {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if channels.contains(self.function_owner) {
            self.tell_owner();
        }
        let director = self.grants.as_ref().map(|grants| grants.director);
        if director.is_some_and(|director| channels.contains(director)) {
            self.serve();
        }
        Ok(())
    }
}
