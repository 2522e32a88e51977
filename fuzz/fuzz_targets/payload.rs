//! Payloads of a boot image that are damaged in ways that the hash does not show.
//!
//! The hash guards against accidents only, so it is made right before the payload is read.
#![no_main]

use std::mem::offset_of;

use libfuzzer_sys::fuzz_target;
use segue_system_image::format::{Header, MAGIC, VERSION};
use segue_system_image::{Payload, resources, write};
use zerocopy::IntoBytes;

fuzz_target!(|data: &[u8]| {
    if data.len() < size_of::<Header>() {
        return;
    }
    // Aligned to 8 bytes, as in the image.
    let mut words = vec![0_u64; data.len().div_ceil(8)];
    let bytes = &mut words.as_mut_bytes()[..data.len()];
    bytes.copy_from_slice(data);
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    let version = offset_of!(Header, version);
    bytes[version..version + 4].copy_from_slice(&VERSION.to_ne_bytes());
    let at = offset_of!(Header, tables_length);
    let length = u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if (size_of::<Header>()..=bytes.len()).contains(&length) {
        write::seal(&mut bytes[..length]);
    }
    if let Ok(payload) = Payload::read(bytes) {
        use_it(&payload);
    }
});

/// What the root task does with a payload that was accepted.
fn use_it(payload: &Payload) {
    let needs = resources::needs(payload);
    assert!(needs.slots > 0);
    let mut bins: Vec<resources::Bin> = (12..24)
        .map(|bits| resources::Bin {
            bits,
            ..resources::Bin::default()
        })
        .collect();
    resources::fits(payload, &mut bins);
    for domain in payload.protection_domains {
        payload.program_is_intact(domain);
        for run in Payload::slice(payload.runs, domain.runs) {
            payload.data(run.offset, u64::from(run.pages) << run.page_bits);
        }
    }
    for region in payload.regions {
        payload.data(region.data_offset, region.data_length);
    }
}
