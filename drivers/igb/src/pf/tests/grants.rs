//! Functions that are granted while the device runs, one rule each.

use super::*;

/// Address of an application, which function 0 has at the start.
const APPLICATION: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 7];
const ENABLE_QUEUE: u32 = 1 << 25;
const BROADCAST: [u8; 6] = [0xff; 6];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A driver that runs, and may grant functions 4 and 5. Whoever has a function has started
/// its queues.
pub(super) fn granting(device: &Device, filters: &[Filter]) -> (PhysicalFunction<Device>, u64) {
    let filters = filters.iter().copied();
    let mut function =
        PhysicalFunction::new(device.clone(), addresses(), filters, 0b11_0000).unwrap();
    function.poll(0).unwrap();
    function.poll(10_000).unwrap();
    for index in 0..2 {
        start_queues(device, index);
    }
    (function, 10_000)
}

pub(super) fn start_queues(device: &Device, index: usize) {
    let holder = device.holder(index);
    holder.write32(0x2828, ENABLE_QUEUE);
    holder.write32(0x3828, ENABLE_QUEUE);
}

fn standard() -> [Filter; 2] {
    [filter(APPLICATION, 0), filter(GROUP, 0)]
}

#[test]
fn a_function_that_can_be_granted_is_off_at_the_start() {
    let device = device();
    granting(&device, &standard());
    start_queues(&device, 4);
    assert_eq!((device.get(0xc8c), device.get(0xc90)), (3, 3));
    assert_eq!(device.get(0x5ae0), 0x8000_0600);
    assert_eq!(device.get(0x3500), 3);
    assert_eq!(device.receivers(BROADCAST), 3);
    assert!(!device.lets_out(4, APPLICATION));
}

#[test]
fn an_enabled_function_gets_what_is_for_all_and_sends_nothing_before_its_route() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    device.reset_function(4);
    function.enable(4).unwrap();
    start_queues(&device, 4);
    assert_eq!(device.get(0xc88), 0);
    assert_eq!(device.get(0x5ae0), 0x8b00_0600);
    assert_eq!(device.receivers(BROADCAST), 0b1_0011);
    assert_eq!(device.receivers(GROUP), 0b1_0001);
    assert_eq!(device.receivers(APPLICATION), 1);
    assert!(!device.lets_out(4, APPLICATION));
    assert!(device.lets_out(0, APPLICATION));

    function.route(APPLICATION, 4).unwrap();
    assert_eq!(device.receivers(APPLICATION), 0b1_0000);
    assert!(device.lets_out(4, APPLICATION));
    assert!(!device.lets_out(4, MAC), "nobody else's address");
}

#[test]
fn a_route_is_one_write_and_the_server_can_send_all_the_time() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    function.enable(4).unwrap();
    start_queues(&device, 4);
    device.take_written();
    function.route(APPLICATION, 4).unwrap();
    assert_eq!(
        device.take_written(),
        [0x3500, 0x5414],
        "check, then filter"
    );
    assert_eq!(device.get(0x5410), 0x5e00_5452);
    assert_eq!(device.get(0x5414), 0x8040_0761);
    assert!(device.lets_out(0, APPLICATION), "what is still on its way");
    assert_eq!(device.get(0x3500), 0b1_0010);

    function.route(APPLICATION, 4).unwrap();
    assert_eq!(device.take_written(), [0x5414], "again, to no effect");
    function.route(APPLICATION, 0).unwrap();
    assert_eq!(
        device.take_written(),
        [0x5414, 0x3500],
        "filter, then check"
    );
    assert_eq!(device.get(0x5414), 0x8004_0761);
    assert_eq!(device.get(0x3500), 0b1_0011);
    assert!(!device.lets_out(4, APPLICATION));
}

#[test]
fn an_address_of_several_functions_is_one_functions_after_a_route() {
    let device = device();
    let both = [filter(APPLICATION, 0), filter(APPLICATION, 1)];
    let (mut function, _) = granting(&device, &both);
    assert_eq!(device.receivers(APPLICATION), 3);
    function.enable(5).unwrap();
    start_queues(&device, 5);
    function.route(APPLICATION, 5).unwrap();
    assert_eq!(device.receivers(APPLICATION), 0b10_0000);
    assert_eq!(device.get(0x3500), 0b10_0000);
    function.scrub(5).unwrap();
    assert_eq!(device.receivers(APPLICATION), 3);
    assert_eq!(device.get(0x3500), 3);
}

#[test]
fn unknown_addresses_take_filters_while_there_are_any_and_give_them_back() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    function.enable(4).unwrap();
    start_queues(&device, 4);
    let address = |last| [0x52, 0x54, 0, 0x5e, 0x62, last];
    // Two are functions' own, one the application's.
    for last in 0..21 {
        function.route(address(last), 4).unwrap();
        assert_eq!(device.receivers(address(last)), 0b1_0000);
    }
    assert_eq!(
        function.route(address(21), 4),
        Err(Error::TooManyAddresses(25))
    );
    function.route(APPLICATION, 4).unwrap();
    function.scrub(4).unwrap();
    assert_eq!(device.receivers(APPLICATION), 1, "back where it was");
    for last in 0..21 {
        assert_eq!(device.receivers(address(last)), 0);
    }
    assert_eq!(device.get(0x541c), 0, "a free filter is off");
    function.enable(4).unwrap();
    function.route(address(21), 4).unwrap();
}

#[test]
fn a_thousand_routes_need_no_filter_more() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    let unknown = [0x52, 0x54, 0, 0x5e, 0x62, 1];
    for _ in 0..1000 {
        for granted in [4, 5] {
            function.enable(granted).unwrap();
            start_queues(&device, granted.into());
            function.route(APPLICATION, granted).unwrap();
            function.route(unknown, granted).unwrap();
            assert_eq!(device.receivers(APPLICATION), 1 << granted);
            function.route(APPLICATION, 0).unwrap();
            function.scrub(granted).unwrap();
            assert_eq!(device.receivers(APPLICATION), 1);
            assert_eq!(device.receivers(unknown), 0);
        }
    }
    let valid = (0..24).filter(|index| {
        let at = match index {
            0..16 => 0x5404 + 8 * index,
            _ => 0x54e4 + 8 * (index - 16),
        };
        device.get(at) != 0
    });
    assert_eq!(valid.count(), 3);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    function.enable(4).unwrap();
    let before = device.registers();
    for bad in [0, 1, 2, 8, 255] {
        assert_eq!(function.enable(bad), Err(Error::FunctionNotGrantable(bad)));
        assert_eq!(function.scrub(bad), Err(Error::FunctionNotGrantable(bad)));
    }
    for off in [2, 5, 8, 255] {
        let result = function.route(APPLICATION, off);
        assert_eq!(result, Err(Error::FunctionOff(off)));
    }
    for bad in [GROUP, BROADCAST, [0; 6]] {
        assert_eq!(function.route(bad, 4), Err(Error::NotOneStation(bad)));
    }
    assert_eq!(function.route(MAC, 4), Err(Error::OwnAddress(MAC)));
    assert_eq!(function.route(MAC, 1), Err(Error::OwnAddress(MAC)));
    assert_eq!(device.registers(), before);
}

#[test]
fn a_function_with_an_address_cannot_be_granted() {
    let mut function = PhysicalFunction::new(device(), addresses(), [], 0xff).unwrap();
    assert_eq!(function.enable(1), Err(Error::FunctionNotGrantable(1)));
    assert_eq!(function.enable(2), Err(Error::NotReady));
}

#[test]
fn nothing_can_be_ordered_before_the_device_is_set_up_or_when_it_is_given_up() {
    let device = device();
    let filters = standard().into_iter();
    let mut function =
        PhysicalFunction::new(device.clone(), addresses(), filters, 0b1_0000).unwrap();
    for now in [0, 5000] {
        function.poll(now).unwrap();
        device.take_written();
        assert_eq!(function.enable(4), Err(Error::NotReady));
        assert_eq!(function.scrub(4), Err(Error::NotReady));
        assert_eq!(function.route(APPLICATION, 0), Err(Error::NotReady));
        assert!(device.take_written().is_empty());
    }
    function.poll(10_000).unwrap();
    function.enable(4).unwrap();

    device.silence_transceiver();
    function.state = State::Start;
    function.poll(0).unwrap();
    function.poll(10_000).unwrap();
    assert_eq!(function.poll(200_000), Err(Error::TransceiverSilent));
    assert_eq!(function.enable(4), Err(Error::TransceiverSilent));
    assert_eq!(function.scrub(4), Err(Error::TransceiverSilent));
}

#[test]
fn a_holders_own_reset_counts_only_while_the_function_is_enabled() {
    let device = device();
    let (mut function, now) = granting(&device, &standard());
    device.set(0x0008, STATUS_UP);
    assert_eq!(function.poll(now).unwrap().ready, 3);
    device.reset_function(4);
    let outcome = function.poll(now).unwrap();
    assert_eq!((outcome.reset, outcome.ready), (0, 0));
    assert_eq!((device.get(0xc8c), device.get(0xc88)), (3, 0));

    function.enable(4).unwrap();
    device.set(0x5ae0, 0);
    device.reset_function(4);
    let outcome = function.poll(now).unwrap();
    assert_eq!((outcome.reset, outcome.ready), (0x10, 0x10));
    assert_eq!((device.get(0xc8c), device.get(0xc90)), (0x13, 0x13));
    assert_eq!(device.get(0x5ae0), 0x8b00_0600);

    function.scrub(4).unwrap();
    assert_eq!(function.poll(now).unwrap().reset, 0, "the driver's own");
    device.reset_function(4);
    assert_eq!(function.poll(now).unwrap().reset, 0);
    assert_eq!((device.get(0xc8c), device.get(0xc90)), (3, 3));
}

#[test]
fn the_link_can_come_and_go_meanwhile() {
    let device = device();
    let (mut function, now) = granting(&device, &standard());
    function.enable(4).unwrap();
    function.route(APPLICATION, 4).unwrap();
    start_queues(&device, 4);
    device.set(0x0008, STATUS_UP);
    assert_eq!(function.poll(now).unwrap().ready, 0b1_0011);
    device.set(0x0008, 0x81);
    function.poll(now).unwrap();
    assert_eq!(device.receivers(APPLICATION), 0b1_0000);
}

#[test]
fn a_queue_that_does_not_stop_is_reported_and_the_function_is_off() {
    let device = device();
    let (mut function, _) = granting(&device, &standard());
    function.enable(4).unwrap();
    function.route(APPLICATION, 4).unwrap();
    start_queues(&device, 4);
    device.holder(4).write32(0x2800, 0x1000);
    device.let_queues_hang(true);
    assert_eq!(
        function.scrub(4),
        Err(Error::QueueStuck {
            queue: "receive",
            what: "stop"
        })
    );
    assert_eq!(
        device.get(0xc100),
        0x1000,
        "not touched while it may be read"
    );
    assert_eq!(device.receivers(APPLICATION), 1);
    assert!(!device.lets_out(4, APPLICATION));
    device.let_queues_hang(false);
    function.scrub(4).unwrap();
    assert_eq!(device.get(0xc100), 0);
}
