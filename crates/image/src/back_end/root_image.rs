//! `init` and the payload as one ELF file, which the kernel starts.
//!
//! The kernel keeps memory and a capability for every page between the lowest
//! and the highest address of the image, holes included. So the payload lies
//! directly behind `init`, and `init` learns where from a symbol.

use super::program::Program;

/// The symbol of `init` that receives address and length of the payload and
/// the lowest address of the image.
const LOCATION: &str = "payload_location";
const PAGE: u64 = 0x1000;
/// Boot loaders put small modules into low memory, which the kernel refuses.
const MINIMUM: usize = 0x11_0000;

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// Makes the ELF file; an error is the end of a sentence about `init`.
pub(super) fn write(init: &[u8], payload: &[u8]) -> Result<Vec<u8>, String> {
    // The same demands as on a protection domain's program.
    crate::program::Program::read(init)?;
    let mut program = Program::read(init)?;
    let end = program
        .segments
        .iter()
        .map(|segment| segment.address + segment.size)
        .max()
        .ok_or("has no segment")?;
    let address = end.next_multiple_of(PAGE);
    let lowest = program
        .segments
        .iter()
        .map(|segment| segment.address)
        .min()
        .unwrap_or(0);
    let location = [address, payload.len() as u64, lowest]
        .map(u64::to_le_bytes)
        .concat();
    program.patch(LOCATION, &location)?;

    let count = program.segments.len() as u64 + 1;
    let mut headers = Vec::new();
    let mut body = Vec::new();
    let start = (HEADER + count * PROGRAM_HEADER).next_multiple_of(PAGE);
    let mut add = |address: u64, bytes: &[u8], size: u64, flags: u32| {
        // Same place in a page in the file and in memory.
        body.resize(body.len().next_multiple_of(PAGE as usize), 0);
        body.resize(body.len() + (address % PAGE) as usize, 0);
        let offset = start + body.len() as u64;
        body.extend_from_slice(bytes);
        headers.extend_from_slice(&1u32.to_le_bytes()); // PT_LOAD
        headers.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, address, address, bytes.len() as u64, size, PAGE] {
            headers.extend_from_slice(&word.to_le_bytes());
        }
    };
    for segment in &program.segments {
        let mut flags = PF_R;
        if segment.writable {
            flags |= PF_W;
        }
        if segment.executable {
            flags |= PF_X;
        }
        add(segment.address, &segment.bytes, segment.size, flags);
    }
    add(address, payload, payload.len() as u64, PF_R);

    let mut file = Vec::with_capacity(start as usize + body.len());
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    file.extend_from_slice(&62u16.to_le_bytes()); // EM_X86_64
    file.extend_from_slice(&1u32.to_le_bytes()); // EV_CURRENT
    for word in [program.entry, HEADER, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0u32.to_le_bytes()); // flags
    for half in [HEADER as u16, PROGRAM_HEADER as u16, count as u16, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&headers);
    file.resize(start as usize, 0);
    file.extend_from_slice(&body);
    if file.len() < MINIMUM {
        file.resize(MINIMUM, 0);
    }
    Ok(file)
}
