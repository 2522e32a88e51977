//! Capability slots and untyped memory.

use segue_system_image::Payload;
use segue_system_image::format::{Span, Untyped as UntypedRecord, limits};
use segue_system_image::resources::{self, Bin};
use sel4::cap::Untyped;
use sel4::{BootInfo, ObjectType};

use crate::failure::{Doing, Failure};
use crate::root;

/// Most untypeds that the kernel reports.
const UNTYPEDS: usize = 330;
/// Most objects that one retype makes (`CONFIG_RETYPE_FAN_OUT_LIMIT`).
const FAN_OUT: u64 = 256;

/// An untyped of device memory.
#[derive(Clone, Copy)]
struct DeviceUntyped {
    slot: u64,
    start: u64,
    bits: u32,
    /// Bytes given out, from the start.
    used: u64,
}

const NO_BIN: Bin = Bin { bits: 0, used: 0 };
const NO_DEVICE: DeviceUntyped = DeviceUntyped {
    slot: 0,
    start: 0,
    bits: 0,
    used: 0,
};

/// Hands out slots of the root CNode and the machine's untyped memory.
pub(crate) struct Allocator {
    next_slot: u64,
    end_slot: u64,
    bins: [Bin; UNTYPEDS],
    bin_slots: [u64; UNTYPEDS],
    bin_count: usize,
    devices: [DeviceUntyped; UNTYPEDS],
    device_count: usize,
    /// The untypeds that the boot image lists, and their slots.
    records: &'static [UntypedRecord],
    record_slots: [u32; limits::MEMORY],
}

impl Allocator {
    /// Has nothing yet. A constant, so that it is made where it stays: it is too
    /// large to be moved about on the stack.
    pub(crate) const EMPTY: Self = Self {
        next_slot: 0,
        end_slot: 0,
        bins: [NO_BIN; UNTYPEDS],
        bin_slots: [0; UNTYPEDS],
        bin_count: 0,
        devices: [NO_DEVICE; UNTYPEDS],
        device_count: 0,
        records: &[],
        record_slots: [0; limits::MEMORY],
    };

    /// Takes over what the kernel left.
    pub(crate) fn take_over(&mut self, boot_info: &BootInfo, payload: &Payload<'static>) {
        let slots = boot_info.empty_slots();
        self.next_slot = slots.start;
        self.end_slot = slots.end;
        self.records = payload.memory;
        for untyped in boot_info.untyped().take(UNTYPEDS) {
            let bits = u32::from(untyped.size_bits);
            if untyped.is_device {
                self.devices[self.device_count] = DeviceUntyped {
                    slot: untyped.slot,
                    start: untyped.physical_address,
                    bits,
                    used: 0,
                };
                self.device_count += 1;
            } else {
                self.bins[self.bin_count] = Bin { bits, used: 0 };
                self.bin_slots[self.bin_count] = untyped.slot;
                self.bin_count += 1;
            }
        }
    }

    /// The machine's untypeds, to try an allocation with.
    pub(crate) fn bins(&self) -> ([Bin; UNTYPEDS], usize) {
        (self.bins, self.bin_count)
    }

    /// Bytes of memory that nobody has.
    pub(crate) fn free_memory(&self) -> u64 {
        self.bins[..self.bin_count]
            .iter()
            .map(|bin| (1 << bin.bits) - bin.used)
            .sum()
    }

    /// Slots that are left.
    pub(crate) fn free_slots(&self) -> u64 {
        self.end_slot - self.next_slot
    }

    /// The first of `count` empty slots.
    pub(crate) fn slots(&mut self, count: u64) -> Result<u64, Failure> {
        if count > self.free_slots() {
            return Err(Failure::Slots {
                needed: count,
                available: self.free_slots(),
            });
        }
        let first = self.next_slot;
        self.next_slot += count;
        Ok(first)
    }

    /// Takes all untypeds that the boot image lists from the machine's.
    pub(crate) fn take_memory(&mut self, payload: &Payload<'static>) -> Result<(), Failure> {
        for index in resources::largest_first(payload) {
            let bits = self.records[index].bits;
            let available = self.free_memory();
            let bin = resources::allocate(&mut self.bins[..self.bin_count], bits).ok_or(
                Failure::Memory {
                    needed: 1 << bits,
                    available,
                    largest: 1 << bits,
                },
            )?;
            let slot = self.slots(1)?;
            retype(self.bin_slots[bin], ObjectType::Untyped, bits, slot, 1)?;
            self.record_slots[index] = slot as u32;
        }
        Ok(())
    }

    /// Makes `count` frames of the device memory at `address`, in the slots from
    /// `slot` on. Within one untyped, addresses must come in ascending order.
    pub(crate) fn device_frames(
        &mut self,
        region: &'static str,
        mut address: u64,
        page_bits: u32,
        mut slot: u64,
        mut count: u64,
    ) -> Result<(), Failure> {
        while count > 0 {
            let missing = Failure::Device { region, address };
            let (index, offset) = self.reach_device(address).ok_or(missing)?;
            self.fill_gap(index, offset)?;
            let device = &mut self.devices[index];
            let frames = count.min(((1u64 << device.bits) - offset) >> page_bits);
            if frames == 0 {
                return Err(missing);
            }
            retype(device.slot, frame_type(page_bits), 0, slot, frames)?;
            let length = frames << page_bits;
            device.used = offset + length;
            address += length;
            slot += frames;
            count -= frames;
        }
        Ok(())
    }
}

impl Allocator {
    /// The untyped of device memory that still has `address`, and how far into it.
    fn reach_device(&self, address: u64) -> Option<(usize, u64)> {
        let devices = self.devices[..self.device_count].iter().enumerate();
        devices.into_iter().find_map(|(index, device)| {
            let offset = address.checked_sub(device.start)?;
            (offset < 1 << device.bits && offset >= device.used).then_some((index, offset))
        })
    }

    /// Fills a device untyped up to `offset` with untypeds, each as large as its place
    /// allows.
    fn fill_gap(&mut self, index: usize, offset: u64) -> Result<(), Failure> {
        while self.devices[index].used < offset {
            let device = self.devices[index];
            let gap = offset - device.used;
            let bits = device.used.trailing_zeros().min(63 - gap.leading_zeros());
            let piece = self.slots(1)?;
            retype(device.slot, ObjectType::Untyped, bits, piece, 1)?;
            self.devices[index].used += 1 << bits;
        }
        Ok(())
    }

    /// Makes an untyped of 2^`bits` bytes of the device memory at `address`, a multiple
    /// of that, in `slot`. Within one untyped, addresses must come in ascending order.
    pub(crate) fn device_untyped(
        &mut self,
        region: &'static str,
        address: u64,
        bits: u32,
        slot: u64,
    ) -> Result<(), Failure> {
        let missing = Failure::Device { region, address };
        let (index, offset) = self.reach_device(address).ok_or(missing)?;
        self.fill_gap(index, offset)?;
        let device = &mut self.devices[index];
        let end = offset + (1 << bits);
        if end > 1 << device.bits {
            return Err(missing);
        }
        retype(device.slot, ObjectType::Untyped, bits, slot, 1)?;
        device.used = end;
        Ok(())
    }
}

/// The type of a frame of two to the power of `page_bits` bytes.
pub(crate) fn frame_type(page_bits: u32) -> ObjectType {
    if page_bits == 21 {
        ObjectType::LargePage
    } else {
        ObjectType::SmallPage
    }
}

/// Makes `count` objects in the slots from `first` on.
pub(crate) fn retype(
    untyped: u64,
    object: ObjectType,
    size_bits: u32,
    first: u64,
    count: u64,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < count {
        let step = (count - done).min(FAN_OUT);
        Untyped(untyped)
            .retype(
                object.raw(),
                u64::from(size_bits),
                root::CNODE,
                0,
                0,
                first + done,
                step,
            )
            .doing("kernel objects could not be made", "untyped memory")?;
        done += step;
    }
    Ok(())
}

/// Makes objects out of a list of untypeds, largest objects first.
pub(crate) struct Chunks {
    span: Span,
    used: u64,
}

impl Chunks {
    /// Uses the untypeds in `span` of the table in the boot image.
    pub(crate) fn new(span: Span) -> Self {
        Self { span, used: 0 }
    }

    /// Makes `count` objects in fresh slots and returns the first.
    pub(crate) fn make(
        &mut self,
        allocator: &mut Allocator,
        object: ObjectType,
        size_bits: u32,
        count: u64,
    ) -> Result<u64, Failure> {
        let first = allocator.slots(count)?;
        let bits = u32::from(object.object_bits(size_bits as u8));
        let mut done = 0;
        while done < count {
            if self.span.count == 0 {
                return Err(Failure::Inconsistent(
                    "the memory for a part of it is too small",
                ));
            }
            let index = self.span.first as usize;
            let room = ((1u64 << allocator.records[index].bits) - self.used) >> bits;
            let step = room.min(count - done);
            let untyped = u64::from(allocator.record_slots[index]);
            retype(untyped, object, size_bits, first + done, step)?;
            self.used += step << bits;
            done += step;
            if done < count {
                self.span = Span {
                    first: self.span.first + 1,
                    count: self.span.count - 1,
                };
                self.used = 0;
            }
        }
        Ok(first)
    }
}
