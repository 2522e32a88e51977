//! The physical function's driver against a device made of registers.

mod adoption;
mod grants;
mod properties;

use std::vec::Vec;

use super::*;
use crate::simulation::physical::SimulatedPhysical as Device;

const STATUS_UP: u32 = 0x83;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 1];

fn device() -> Device {
    Device::default()
}

fn addresses() -> [Option<[u8; 6]>; VIRTUAL_FUNCTIONS] {
    let mut addresses = [None; VIRTUAL_FUNCTIONS];
    addresses[0] = Some([0x52, 0x54, 0, 0x5e, 0x60, 0]);
    addresses[1] = Some(MAC);
    addresses
}

/// Runs the driver until it watches the link.
fn running(device: &Device) -> (PhysicalFunction<Device>, u64) {
    running_with(device, &[])
}

fn running_with(device: &Device, filters: &[Filter]) -> (PhysicalFunction<Device>, u64) {
    let mut function =
        PhysicalFunction::new(device.clone(), addresses(), filters.iter().copied(), 0).unwrap();
    let outcome = function.poll(1000).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            wake_at: Some(11_000),
            ..Outcome::default()
        }
    );
    let early = function.poll(5000).unwrap();
    assert_eq!(early.wake_at, Some(11_000), "an early call changes nothing");
    let outcome = function.poll(11_000).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            wake_at: Some(111_000),
            ..Outcome::default()
        }
    );
    (function, 11_000)
}

#[test]
fn pools_get_their_addresses_and_nothing_else() {
    let device = device();
    running(&device);
    assert_eq!(device.get(0x5818), 3);
    assert_eq!(device.get(0x581c), 3 << 29);
    assert_eq!(device.get(0x5400), 0x5e00_5452);
    assert_eq!(device.get(0x5404), 0x8004_0060);
    assert_eq!(device.get(0x540c), 0x8008_0160);
    for index in 2..16 {
        assert_eq!(device.get(0x5404 + 8 * index), 0, "filter {index} is off");
    }
    for index in 0..8 {
        assert_eq!(
            device.get(0x54e4 + 8 * index),
            0,
            "filter {index} + 16 is off"
        );
    }
    for index in 0..128 {
        assert_eq!(device.get(0x5200 + 4 * index), 0, "no multicast");
    }
    assert_eq!(device.get(0x5ad0), 0x8900_0600);
    assert_eq!(
        device.get(0x5ad8),
        0x8000_0600,
        "an unused pool accepts nothing"
    );
    assert_eq!(device.get(0x0c8c), 3);
    assert_eq!(device.get(0x0c90), 3);
    assert_eq!(
        device.get(0x3500),
        3,
        "no loopback, source addresses checked"
    );
    assert_eq!(device.get(0x0020), 1 << 28 | 0x0420_1340);
    assert_eq!(device.get(0x1514), 0x8000_0011);
    assert_eq!(device.get(0x1740), 0x8000);
    assert_eq!(
        (device.get(0x00d0), device.get(0x1524), device.get(0x152c)),
        (0x104, 1, 1)
    );
    assert_eq!(device.get(0x0018) & 1 << 14, 1 << 14);
    assert_eq!(device.get(0x0400) & 0xa, 0xa);
    assert_eq!(device.get(0x0100), 1 << 1 | 1 << 15 | 1 << 26);
}

#[test]
fn a_queue_without_descriptors_holds_nobody_up() {
    let device = device();
    let _function = running(&device);
    // 8.10: queue drop enable, one bit for each of 16 queues.
    assert_eq!(device.get(0x2408), 0xffff);
}

fn filter(mac: [u8; 6], function: u8) -> Filter {
    Filter {
        mac,
        device: 0,
        function,
    }
}

#[test]
fn addresses_beyond_a_functions_own_go_where_the_filters_say() {
    let device = device();
    let own = |last| [0x52, 0x54, 0, 0x5e, 0x61, last];
    let filters: Vec<Filter> = (0..22).map(|last| filter(own(last), last % 2)).collect();
    running_with(&device, &filters);
    assert_eq!(device.get(0x5404), 0x8004_0060, "the function's own");
    for (index, last) in (2..24).zip(0u32..) {
        let at = match index {
            0..16 => 0x5400 + 8 * index,
            _ => 0x54e0 + 8 * (index - 16),
        };
        assert_eq!(device.get(at), 0x5e00_5452);
        let pool = 1 << (18 + last % 2);
        assert_eq!(
            device.get(at + 4),
            0x8000_0061 | last << 8 | pool,
            "{index}"
        );
    }

    // One more, one that is there already, one of a function that is not in use.
    let more = |mac, function| {
        let filters = [&filters[..], &[filter(mac, function)]].concat();
        PhysicalFunction::new(device.clone(), addresses(), filters, 0).err()
    };
    assert_eq!(more(own(22), 0), Some(Error::TooManyAddresses(25)));
    assert_eq!(more(own(0), 0), None);
    assert_eq!(more(own(22), 5), None);
    assert_eq!(more(own(22), 200), None);
}

#[test]
fn multicast_goes_to_the_functions_that_want_it() {
    let device = device();
    let filters = [
        filter([0x33, 0x33, 0, 0, 0, 1], 0),
        filter([0x33, 0x33, 0xff, 0x12, 0x34, 0x56], 0),
        // Of a function that is not in use.
        filter([0x33, 0x33, 0xff, 0x12, 0x34, 0xff], 6),
    ];
    let (mut function, now) = running_with(&device, &filters);
    // 0x0100 >> 4 is 0x010, 0x5634 >> 4 is 0x563.
    for index in 0..128 {
        let expected = match index {
            0 => 1 << 0x10,
            0x2b => 1 << 3,
            _ => 0,
        };
        assert_eq!(device.get(0x5200 + 4 * index), expected, "{index}");
    }
    assert_eq!(
        device.get(0x0100) >> 12 & 3,
        0,
        "the bits that are looked at"
    );
    let pools = |pool: usize| device.get(0x5ad0 + 4 * pool);
    assert_eq!(pools(0), 0x8b00_0600);
    assert_eq!(pools(1), 0x8900_0600);
    assert_eq!(pools(6), 0x8000_0600);

    device.set(0x5ad0, 0);
    device.reset_function(0);
    function.poll(now).unwrap();
    assert_eq!(pools(0), 0x8b00_0600, "after a reset as before");
}

#[test]
fn the_link_is_followed() {
    let device = device();
    let (mut function, now) = running(&device);
    assert_eq!(function.poll(now + 10).unwrap().link, None);
    device.set(0x0008, STATUS_UP);
    let up = function.poll(now + 500_000).unwrap();
    assert_eq!(
        up.link,
        Some(Link::Up {
            megabits: 1000,
            full_duplex: true
        })
    );
    assert_eq!(up.ready, 3);
    assert_eq!(up.reset, 0);
    let same = function.poll(now + 600_000).unwrap();
    assert_eq!((same.link, same.ready), (None, 0));
    device.set(0x0008, 0x81);
    assert_eq!(function.poll(now + 700_000).unwrap().link, Some(Link::Down));
    device.set(0x0008, 0x42);
    let slow = function.poll(now + 800_000).unwrap();
    assert_eq!(
        slow.link,
        Some(Link::Up {
            megabits: 100,
            full_duplex: false
        })
    );
    assert_eq!(slow.ready, 3);
}

#[test]
fn a_function_that_was_reset_is_enabled_again() {
    let device = device();
    let (mut function, now) = running(&device);
    device.reset_function(1);
    let outcome = function.poll(now).unwrap();
    assert_eq!(
        (outcome.reset, outcome.ready),
        (2, 0),
        "not ready while the link is down"
    );
    assert_eq!(
        (device.get(0xc8c), device.get(0xc90), device.get(0xc88)),
        (3, 3, 0)
    );
    device.set(0x0008, STATUS_UP);
    function.poll(now).unwrap();
    device.reset_function(0);
    device.reset_function(5);
    let outcome = function.poll(now).unwrap();
    assert_eq!(
        (outcome.reset, outcome.ready),
        (1, 1),
        "function 5 is not in use"
    );
    assert_eq!(
        (device.get(0xc8c), device.get(0xc90), device.get(0xc88)),
        (3, 3, 0)
    );
}

#[test]
fn a_dead_device_is_given_up_in_time() {
    let absent = device();
    absent.set(0x0008, u32::MAX);
    let mut function = PhysicalFunction::new(absent, addresses(), [], 0).unwrap();
    assert_eq!(function.poll(0), Err(Error::NotPresent));
    assert_eq!(function.poll(1), Err(Error::NotPresent), "and stays so");

    let stuck = device();
    stuck.let_reset_hang();
    assert_eq!(run_to_failure(&stuck), (Error::ResetStuck, 1_000_000));

    let silent = device();
    silent.silence_transceiver();
    assert_eq!(run_to_failure(&silent), (Error::TransceiverSilent, 110_000));

    let broken = device();
    let mut function = PhysicalFunction::new(broken.clone(), addresses(), [], 0).unwrap();
    broken.silence_transceiver();
    function.poll(0).unwrap();
    function.poll(10_000).unwrap();
    broken.set(0x0020, 1 << 30);
    assert_eq!(function.poll(10_200), Err(Error::TransceiverError));
}

/// Follows the driver's own wake-up times until it gives up: (why, when).
fn run_to_failure(device: &Device) -> (Error, u64) {
    let mut function = PhysicalFunction::new(device.clone(), addresses(), [], 0).unwrap();
    let mut now = 0;
    for _ in 0..2000 {
        match function.poll(now) {
            Ok(outcome) => {
                let next = outcome.wake_at.unwrap();
                assert!(next > now, "time goes on");
                now = next;
            }
            Err(error) => return (error, now),
        }
    }
    panic!("never gave up");
}
