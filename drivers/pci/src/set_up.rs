//! Makes a device what the system description says, and checks that it is.
//!
//! Every step compares first and writes only what differs, so the same code
//! brings a device up after power-on and adopts a running one: one whose virtual functions are
//! there, so that others may be using them. Of such a device single registers are corrected; it
//! is not switched off and on again, and an error leaves it as it is.

use segue_device::Mmio;
use segue_fault_points::{Point, reached};

use crate::address::{Address, RequesterId};
use crate::bar::{Bar, Bars};
use crate::config::{BAR_COUNT, BarPlacement, Device, Interrupt};
use crate::ecam::{Ecam, Function, command};
use crate::error::{Error, ErrorKind, PlaceProblem};
use crate::msix::{MsiX, Table};
use crate::sriov::Sriov;

const FOUR_GIB: u64 = 1 << 32;
/// Reads of a virtual function's header until it is given up. A device has 100 ms
/// to show it (PCI Express Base Specification 9.3.3.3.1), a read takes 0.1 us or more.
const READS_UNTIL_SILENT: usize = 2_000_000;
/// Reads between two words of the driver that it still waits.
const READS_OF_A_WAIT: usize = 10_000;

/// Which window of device memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRequest {
    /// The virtual function's number, or `None` for the physical function.
    pub virtual_function: Option<usize>,
    /// The BAR.
    pub bar: usize,
    /// Bytes from the BAR's start; a multiple of 8.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// What was found out about a device while it was set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The physical function's memory BARs.
    pub bars: [Option<Bar>; BAR_COUNT],
    /// The BARs of virtual function 0.
    pub vf_bars: [Option<Bar>; BAR_COUNT],
    /// Device id of the virtual functions, 0 without any.
    pub vf_device_id: u16,
    /// Whether the virtual functions were on already, as wanted: a running device was adopted.
    pub adopted: bool,
    /// Registers that were not as they should be, if it was adopted.
    pub corrected: u32,
}

impl Found {
    fn count(&mut self, is_corrected: bool) {
        self.corrected += u32::from(is_corrected);
    }
}

/// Sets `device` up: checks what it is, places its BARs, switches its virtual
/// functions on, programs the MSI-X entries in `interrupts` that belong to it, and
/// allows memory requests to the functions that are in use.
///
/// In use are the physical function and each virtual function with a MAC address
/// or an interrupt; the others are left switched off. Whether the virtual functions in `lent` (one
/// bit each) may make memory requests is left as it is: that is for their holders, who come and go.
///
/// `window` gives access to device memory at its *new* place. `waits` is called now and then while a
/// device is waited for, a bounded number of times.
///
/// # Errors
///
/// A sentence that says what is not as described. The device is then left
/// without virtual functions and without the right to make memory requests; one that was running
/// is left as it is.
pub fn set_up<M: Mmio, W: Mmio>(
    ecam: &Ecam<M>,
    device: &Device,
    interrupts: &[Interrupt],
    lent: u16,
    mut window: impl FnMut(WindowRequest) -> Option<W>,
    waits: impl Fn(),
) -> Result<Found, Error> {
    let error = |kind| Error::new(device, kind);
    let function = ecam
        .function(device.address())
        .ok_or(error(ErrorKind::BusNotMapped))?;
    check_identity(&function, device)?;
    let adopted = runs(&function, device);
    let plan = Plan {
        ecam,
        device,
        interrupts,
        lent,
        adopted,
        waits,
    };
    let result = plan.configure(&function, &mut window);
    if result.is_err() && !adopted {
        function.set_bus_master(false);
        for index in 0..usize::from(device.vf_count) {
            if let Some(virtual_function) = virtual_function(ecam, device, index) {
                virtual_function.set_bus_master(false);
            }
        }
        if let Some(sriov) = Sriov::of(function).filter(|_| device.vf_count > 0) {
            sriov.disable();
        }
    }
    result
}

/// Whether the device has been set up before, so that others may be using it. A single BAR that is
/// not in its place does not make it another.
fn runs<M: Mmio>(function: &Function<'_, M>, device: &Device) -> bool {
    let bars = function.bars();
    if device.vf_count == 0 {
        return (0..BAR_COUNT).all(|number| stands(&bars, &device.bars, number) != Some(false));
    }
    let Some(sriov) = Sriov::of(*function) else {
        return false;
    };
    let virtual_bars = sriov.bars();
    sriov.enabled() == device.vf_count
        && (0..BAR_COUNT).any(|number| {
            stands(&bars, &device.bars, number) == Some(true)
                || stands(&virtual_bars, &device.vf_bars, number) == Some(true)
        })
}

/// Whether a BAR is where it should be; `None` if that is nowhere.
fn stands<M: Mmio>(
    bars: &Bars<'_, M>,
    wanted: &[BarPlacement; BAR_COUNT],
    number: usize,
) -> Option<bool> {
    let address = wanted[number].address;
    let mut found = bars.addresses(BAR_COUNT);
    (address != 0).then(|| found.any(|found| found == (number, address)))
}

fn check_identity<M: Mmio>(function: &Function<'_, M>, device: &Device) -> Result<(), Error> {
    let expected = (device.vendor_id, device.device_id);
    let kind = match function.identity() {
        None => ErrorKind::NoDevice {
            vendor_id: expected.0,
            device_id: expected.1,
        },
        Some(found) if (found.vendor_id, found.device_id) != expected => ErrorKind::WrongDevice {
            found: (found.vendor_id, found.device_id),
            expected,
        },
        Some(_) => return Ok(()),
    };
    Err(Error::new(device, kind))
}

/// What is to be done with one device.
struct Plan<'a, M, F> {
    ecam: &'a Ecam<M>,
    device: &'a Device,
    interrupts: &'a [Interrupt],
    lent: u16,
    /// Whether it is one that runs.
    adopted: bool,
    waits: F,
}

impl<M: Mmio, F: Fn()> Plan<'_, M, F> {
    fn configure<W: Mmio>(
        &self,
        function: &Function<'_, M>,
        window: &mut impl FnMut(WindowRequest) -> Option<W>,
    ) -> Result<Found, Error> {
        let device = self.device;
        let mut found = Found {
            bars: [None; BAR_COUNT],
            vf_bars: [None; BAR_COUNT],
            vf_device_id: 0,
            adopted: self.adopted,
            corrected: 0,
        };
        let sriov = Sriov::of(*function).filter(|_| device.vf_count > 0);
        if device.vf_count > 0 && sriov.is_none() {
            return Err(Error::new(device, ErrorKind::NoSriov));
        }
        let bars = function.bars();
        if !self.adopted {
            function.change_command(0, command::MEMORY_SPACE | command::BUS_MASTER);
            found.bars = place_all(self.ecam, device, &bars, &device.bars, 1, false)?;
        } else if (0..BAR_COUNT).any(|number| stands(&bars, &device.bars, number) == Some(false)) {
            function.change_command(0, command::MEMORY_SPACE);
            correct_all(device, &bars, &device.bars, false, &mut found)?;
            function.change_command(command::MEMORY_SPACE, 0);
        }
        found.count(function.change_command(command::MEMORY_SPACE, 0));

        if let Some(sriov) = sriov {
            reached(Point::PcieFunctionPlaced);
            found.vf_device_id = sriov.vf_device_id();
            if self.adopted {
                check_places(device, &sriov)?;
                self.correct_virtual(&sriov, &mut found)?;
            } else {
                found.vf_bars = switch_on(self.ecam, device, &sriov)?;
                check_places(device, &sriov)?;
                check_overlaps(device, &found)?;
            }
            for index in 0..usize::from(device.vf_count) {
                self.set_up_virtual_function(index, window, &mut found)?;
            }
        }

        reached(Point::PcieFunctionsSetUp);
        self.program_interrupts(function, None, window, &mut found)?;
        found.count(function.change_command(command::BUS_MASTER, 0));
        Ok(found)
    }

    /// Corrects where the BARs of virtual functions lie that are there already.
    fn correct_virtual(&self, sriov: &Sriov<'_, M>, found: &mut Found) -> Result<(), Error> {
        let (device, bars) = (self.device, sriov.bars());
        let is_wrong = |number| stands(&bars, &device.vf_bars, number) == Some(false);
        if !(0..BAR_COUNT).any(is_wrong) {
            if !sriov.answers() {
                sriov.set_answers(true);
                found.count(true);
            }
            return Ok(());
        }
        let functions = (0..usize::from(device.vf_count))
            .filter_map(|index| virtual_function(self.ecam, device, index));
        sriov.set_answers(false);
        correct_all(device, &bars, &device.vf_bars, true, found)?;
        sriov.set_answers(true);
        // QEMU's functions take a new place only when this bit comes anew. Nobody sees it missing:
        // this program runs to its end before any that drives a function.
        for function in functions {
            if function.change_command(0, command::MEMORY_SPACE) {
                function.change_command(command::MEMORY_SPACE, 0);
            }
        }
        Ok(())
    }
}

/// Moves those BARs of a device that runs back which are not where they should be.
fn correct_all<M: Mmio>(
    device: &Device,
    bars: &Bars<'_, M>,
    wanted: &[BarPlacement; BAR_COUNT],
    of_virtual: bool,
    found: &mut Found,
) -> Result<(), Error> {
    for (number, placement) in wanted.iter().enumerate() {
        if stands(bars, wanted, number) != Some(false) {
            continue;
        }
        let corrected = bars.correct(number, placement.address).ok_or(Error::new(
            device,
            ErrorKind::BarPlace {
                bar: number,
                of_virtual,
                address: placement.address,
                reason: PlaceProblem::NotKept,
            },
        ))?;
        found.count(corrected);
    }
    Ok(())
}

/// Measures the BARs of a row that have a wanted place, and moves them there. The others are not
/// sized unless it matters: if that were interrupted, nobody would know where they have been. `count`
/// functions share each, one after the other.
fn place_all<M: Mmio>(
    ecam: &Ecam<M>,
    device: &Device,
    bars: &Bars<'_, M>,
    wanted: &[BarPlacement; BAR_COUNT],
    count: u64,
    of_virtual: bool,
) -> Result<[Option<Bar>; BAR_COUNT], Error> {
    let error = |kind| Error::new(device, kind);
    let mut measured = [None; BAR_COUNT];
    for (number, placement) in wanted.iter().enumerate() {
        if placement.address == 0 {
            continue;
        }
        let bar = bars.measure(number);
        let mut bar = bar.ok_or(error(ErrorKind::NoBar {
            bar: number,
            of_virtual,
        }))?;
        // Virtual functions lie side by side, so their size must match exactly.
        let fits = if of_virtual {
            bar.size == placement.size
        } else {
            bar.size >= placement.size
        };
        if !fits {
            return Err(error(ErrorKind::BarSize {
                bar: number,
                of_virtual,
                found: bar.size,
                expected: placement.size,
            }));
        }
        let refuse = |reason| {
            error(ErrorKind::BarPlace {
                bar: number,
                of_virtual,
                address: placement.address,
                reason,
            })
        };
        check_place(ecam, device, placement.address, bar.size, count).map_err(refuse)?;
        if !bars.place(&bar, placement.address) {
            return Err(refuse(PlaceProblem::NotKept));
        }
        bar.address = placement.address;
        measured[number] = Some(bar);
    }
    for (number, _) in (wanted.iter().enumerate()).filter(|(_, placement)| placement.address == 0) {
        let Some(bar) = bars.at_most(number) else {
            continue;
        };
        let is_near = |address: u64, length: u64| {
            bar.address < address.saturating_add(length)
                && address < bar.address.saturating_add(bar.size)
        };
        let mut own = measured.iter().flatten();
        let mut virtuals = device.vf_bars.iter().filter(|bar| bar.address != 0);
        let matters = own.any(|own| is_near(own.address, own.size.saturating_mul(count)))
            || virtuals.any(|other| {
                let length = other.size.saturating_mul(device.vf_count.into());
                is_near(other.address, length)
            });
        measured[number] = if matters {
            bars.measure(number)
        } else {
            Some(bar)
        };
    }
    Ok(measured)
}

fn check_place<M: Mmio>(
    ecam: &Ecam<M>,
    device: &Device,
    address: u64,
    size: u64,
    count: u64,
) -> Result<(), PlaceProblem> {
    if !address.is_multiple_of(size) {
        return Err(PlaceProblem::Unaligned);
    }
    let end = size
        .checked_mul(count)
        .and_then(|length| address.checked_add(length));
    let end = end
        .filter(|&end| end <= FOUR_GIB)
        .ok_or(PlaceProblem::Above4GiB)?;
    // The sizes of other functions' BARs are not known (sizing would disturb them),
    // but each starts at a multiple of its size: if one starts in here, they overlap.
    for (other, identity) in ecam.functions_on(device.address().bus()) {
        let registers = if identity.is_bridge { 2 } else { BAR_COUNT };
        let taken = identity.address != device.address()
            && other
                .bars()
                .addresses(registers)
                .any(|(_, other)| other >= address && other < end);
        if taken {
            return Err(PlaceProblem::Taken {
                by: identity.address,
            });
        }
    }
    Ok(())
}

/// Checks that no two BARs of the device lie on each other: those that the system
/// description does not mention are where the firmware put them.
fn check_overlaps(device: &Device, found: &Found) -> Result<(), Error> {
    let own = found.bars.iter().flatten().map(|bar| (bar, 1, false));
    let virtuals = found
        .vf_bars
        .iter()
        .flatten()
        .map(|bar| (bar, u64::from(device.vf_count), true));
    let placed = |&(bar, _, _): &(&Bar, u64, bool)| bar.address != 0;
    let all = own.chain(virtuals).filter(placed);
    for (position, (bar, count, of_virtual)) in all.clone().enumerate() {
        let end = bar.address.saturating_add(bar.size.saturating_mul(count));
        let is_hit = |(other, other_count, _): (&Bar, u64, bool)| {
            let other_end = other
                .address
                .saturating_add(other.size.saturating_mul(other_count));
            other.address < end && bar.address < other_end
        };
        if all.clone().take(position).any(is_hit) {
            return Err(Error::new(
                device,
                ErrorKind::BarPlace {
                    bar: bar.number,
                    of_virtual,
                    address: bar.address,
                    reason: PlaceProblem::Taken {
                        by: device.address(),
                    },
                },
            ));
        }
    }
    Ok(())
}

/// Switches SR-IOV on (hardware order: off, count, BARs, on).
fn switch_on<M: Mmio>(
    ecam: &Ecam<M>,
    device: &Device,
    sriov: &Sriov<'_, M>,
) -> Result<[Option<Bar>; BAR_COUNT], Error> {
    let error = |kind| Error::new(device, kind);
    let (found, expected) = (sriov.total(), device.vf_count);
    if found < expected {
        return Err(error(ErrorKind::TooFewVirtualFunctions { found, expected }));
    }
    sriov.disable();
    sriov.set_count(expected);
    check_places(device, sriov)?;
    let bars = place_all(
        ecam,
        device,
        &sriov.bars(),
        &device.vf_bars,
        expected.into(),
        true,
    )?;
    if !sriov.enable() {
        return Err(error(ErrorKind::SriovRefused));
    }
    Ok(bars)
}

fn check_places<M: Mmio>(device: &Device, sriov: &Sriov<'_, M>) -> Result<(), Error> {
    let found = (sriov.first_offset(), sriov.stride());
    let expected = (device.vf_offset, device.vf_stride);
    // With one virtual function the stride has no meaning.
    if found.0 != expected.0 || (found.1 != expected.1 && device.vf_count > 1) {
        return Err(Error::new(
            device,
            ErrorKind::VirtualFunctionPlaces { found, expected },
        ));
    }
    Ok(())
}

fn virtual_function<'a, M: Mmio>(
    ecam: &'a Ecam<M>,
    device: &Device,
    index: usize,
) -> Option<Function<'a, M>> {
    ecam.function(device.vf_requester_id(index)?.address())
}

impl<M: Mmio, F: Fn()> Plan<'_, M, F> {
    fn set_up_virtual_function<W: Mmio>(
        &self,
        index: usize,
        window: &mut impl FnMut(WindowRequest) -> Option<W>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let device = self.device;
        let function = virtual_function(self.ecam, device, index)
            .ok_or(Error::new(device, ErrorKind::BusNotMapped))?;
        let id = function.address().requester_id();
        let mut interrupts = self.interrupts.iter();
        let is_used =
            device.vf_mac(index).is_some() || interrupts.any(|entry| entry.requester_id == id.0);
        let is_lent = u32::from(self.lent) >> index & 1 != 0;
        if !is_used && !is_lent {
            let off = command::MEMORY_SPACE | command::BUS_MASTER;
            found.count(function.change_command(0, off));
            return Ok(());
        }
        // Vendor and device read all ones for ever; command and status do so only
        // while the function is not there yet.
        let appeared = (0..READS_UNTIL_SILENT).any(|read| {
            if read % READS_OF_A_WAIT == READS_OF_A_WAIT - 1 {
                (self.waits)();
            }
            function.read32(crate::ecam::header::COMMAND) != u32::MAX
        });
        if !appeared {
            return Err(Error::new(
                device,
                ErrorKind::VirtualFunctionSilent { function: id },
            ));
        }
        // By the specification this bit of a virtual function is fixed at 0 and the
        // capability's decides; QEMU's functions need it.
        found.count(function.change_command(command::MEMORY_SPACE, 0));
        self.program_interrupts(&function, Some(index), window, found)?;
        if !is_lent {
            found.count(function.change_command(command::BUS_MASTER, 0));
        }
        Ok(())
    }

    fn program_interrupts<W: Mmio>(
        &self,
        function: &Function<'_, M>,
        virtual_function: Option<usize>,
        window: &mut impl FnMut(WindowRequest) -> Option<W>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let id: RequesterId = function.address().requester_id();
        let error = |kind| Error::new(self.device, kind);
        let mine = || {
            let all = self.interrupts.iter();
            all.filter(|entry| entry.requester_id == id.0)
        };
        if mine().next().is_none() {
            return Ok(());
        }
        let capability = MsiX::of(*function).ok_or(error(ErrorKind::NoMsiX { function: id }))?;
        let place = capability.table();
        let request = WindowRequest {
            virtual_function,
            bar: place.bar,
            offset: place.offset,
            length: place.length(),
        };
        let table = window(request).ok_or(error(ErrorKind::MsiXNotMapped {
            function: id,
            bar: place.bar,
            offset: place.offset,
            length: place.length(),
        }))?;
        let table = Table::new(table, place.entries);
        for index in 0..place.entries {
            if !mine().any(|entry| usize::from(entry.table_index) == index) {
                found.count(table.mask(index));
            }
        }
        for entry in mine() {
            let written = table.set(entry.table_index.into(), entry.vector);
            found.count(written.ok_or(error(ErrorKind::NoMsiXEntry {
                function: id,
                index: entry.table_index,
                vector: entry.vector,
                entries: place.entries,
            }))?);
        }
        found.count(capability.enable());
        Ok(())
    }
}

/// The first interrupt in `interrupts` whose function belongs to none of `devices`.
pub fn interrupt_without_device(
    devices: &[Device],
    interrupts: &[Interrupt],
) -> Option<(Address, Interrupt)> {
    let belongs = |entry: &Interrupt| {
        devices.iter().any(|device| {
            device.requester_id == entry.requester_id
                || (0..usize::from(device.vf_count)).any(|index| {
                    device.vf_requester_id(index) == Some(RequesterId(entry.requester_id))
                })
        })
    };
    let stray = interrupts.iter().find(|entry| !belongs(entry))?;
    Some((RequesterId(stray.requester_id).address(), *stray))
}
