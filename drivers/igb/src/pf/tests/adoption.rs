//! A driver that dies between any two writes, and its successor.

use std::collections::BTreeMap;
use std::vec;

use proptest::prelude::*;

use super::grants::start_queues;
use super::*;

/// Applications: the first is known beforehand, the second to two functions, the third not.
const APPLICATIONS: usize = 3;
const GRANTABLE: u8 = 0b11_0000;
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Registers that the driver may use to ask or to note, and that say nothing of the device's state.
const PASSING: [usize; 2] = [0x0020, 0x00c0];

fn address(application: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0x5e, 0x61, application as u8]
}

fn described() -> Vec<Filter> {
    vec![
        filter(address(0), 0),
        filter(address(1), 0),
        filter(address(1), 1),
        filter(GROUP, 0),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Enable(u8),
    Route(u8),
    Scrub(u8),
}

/// The last order about each application, the function it is about, and whether it was answered.
#[derive(Clone, Default)]
struct Orders([Option<(Order, u8, bool)>; APPLICATIONS]);

impl Orders {
    fn records(&self) -> Vec<Record> {
        let entries = self.0.iter().enumerate();
        entries
            .filter_map(|(who, entry)| Some((who, (*entry)?)))
            .map(|(who, (order, function, answered))| Record {
                mac: address(who),
                function: Some(function),
                works: !matches!(order, Order::Scrub(_)),
                route: match order {
                    Order::Enable(_) => Route::Home,
                    Order::Route(to) if answered => Route::To(to),
                    Order::Scrub(_) if answered => Route::Home,
                    _ => Route::Unsettled,
                },
            })
            .collect()
    }
}

fn new_driver(device: &Device) -> PhysicalFunction<Device> {
    PhysicalFunction::new(device.clone(), addresses(), described(), GRANTABLE).unwrap()
}

/// A driver that takes over what there is, and runs.
fn successor(device: &Device, orders: &Orders) -> (PhysicalFunction<Device>, Option<u32>) {
    let mut function = new_driver(device);
    let adopted = function.adopt(0, orders.records()).unwrap();
    let mut now = 0;
    for _ in 0..100 {
        if matches!(function.state, State::Running { .. }) {
            function.poll(now).unwrap();
            return (function, adopted);
        }
        now = function.poll(now).unwrap().wake_at.unwrap();
    }
    panic!("it never runs");
}

fn fresh() -> (Device, PhysicalFunction<Device>) {
    let device = device();
    let (function, adopted) = successor(&device, &Orders::default());
    assert_eq!(adopted, None, "nothing runs yet");
    device.set(0x0008, STATUS_UP);
    for index in 0..2 {
        start_queues(&device, index);
    }
    (device, function)
}

fn carry_out(function: &mut PhysicalFunction<Device>, who: usize, order: Order) {
    let _ = match order {
        Order::Enable(to) => function.enable(to),
        Order::Route(to) => function.route(address(who), to),
        Order::Scrub(from) => function.scrub(from),
    };
}

fn state(device: &Device) -> BTreeMap<usize, u32> {
    let mut registers = device.registers();
    registers.retain(|offset, _| !PASSING.contains(offset));
    registers
}

/// Registers that must not be written while somebody uses the functions: all of theirs, and the
/// device's reset.
fn is_disturbing(offset: usize) -> bool {
    offset == 0 || offset >= 0xc000 || (0x1528..0x152c).contains(&offset)
}

/// Gives an order to a driver that dies after `writes` writes; true if it has answered.
fn dying(
    device: &Device,
    function: &mut PhysicalFunction<Device>,
    writes: usize,
    who: usize,
    order: Order,
) -> bool {
    device.let_driver_die_after(Some(writes));
    device.take_written();
    carry_out(function, who, order);
    let answered = device.take_written().len() < writes;
    device.let_driver_die_after(None);
    answered
}

#[test]
fn a_running_device_is_taken_over_without_a_write() {
    let (device, mut function) = fresh();
    function.enable(4).unwrap();
    start_queues(&device, 4);
    function.route(address(0), 4).unwrap();
    let mut orders = Orders::default();
    orders.0[0] = Some((Order::Route(4), 4, true));
    let before = device.registers();
    device.take_written();
    let mut function = new_driver(&device);
    assert_eq!(function.adopt(7, orders.records()), Ok(Some(0)));
    assert_eq!(device.take_written(), []);
    let outcome = function.poll(7).unwrap();
    assert_eq!(device.take_written(), []);
    assert_eq!(device.registers(), before);
    assert_eq!(outcome.ready, 0b1_0011, "who did not hear it hears it now");
    assert!(matches!(outcome.link, Some(Link::Up { .. })));
    assert_eq!(outcome.reset, 0);
    function.route(address(0), 0).unwrap();
    function.scrub(4).unwrap();
    assert_eq!(device.receivers(address(0)), 1);
}

#[test]
fn death_while_the_device_is_set_up_is_made_good() {
    let (complete, _) = fresh();
    let wanted = state(&complete);
    let mut ends = false;
    for writes in 0..2000 {
        let device = device();
        device.let_driver_die_after(Some(writes));
        let mut first = new_driver(&device);
        assert_eq!(first.adopt(0, []), Ok(None));
        for now in [0, 10_000, 1_000_000] {
            let _ = first.poll(now);
        }
        ends = device.take_written().len() < writes;
        device.let_driver_die_after(None);
        successor(&device, &Orders::default());
        device.set(0x0008, STATUS_UP);
        for index in 0..2 {
            start_queues(&device, index);
        }
        assert_eq!(state(&device), wanted, "after {writes} writes");
        if ends {
            break;
        }
    }
    assert!(ends, "all writes were tried");
}

/// Life of an application: each step, and what is answered before it.
const LIFE: [Order; 4] = [
    Order::Enable(4),
    Order::Route(4),
    Order::Route(0),
    Order::Scrub(4),
];

/// A device on which application 2 drives function 5, and `who` has come to step `step`.
fn prepared(who: usize, step: usize) -> (Device, PhysicalFunction<Device>, Orders) {
    let (device, mut function) = fresh();
    let mut orders = Orders::default();
    let other = if who == 0 { 1 } else { 0 };
    for order in [Order::Enable(5), Order::Route(5)] {
        carry_out(&mut function, other, order);
        orders.0[other] = Some((order, 5, true));
    }
    start_queues(&device, 5);
    for order in &LIFE[..step] {
        carry_out(&mut function, who, *order);
        orders.0[who] = Some((*order, 4, true));
        if *order == Order::Enable(4) {
            start_queues(&device, 4);
        }
    }
    (device, function, orders)
}

#[test]
fn death_between_any_two_writes_of_an_order_is_made_good_and_harms_nobody_else() {
    for who in 0..APPLICATIONS {
        for (step, order) in LIFE.into_iter().enumerate() {
            let (undisturbed, mut function, _) = prepared(who, step);
            carry_out(&mut function, who, order);
            let wanted = state(&undisturbed);
            for writes in 0.. {
                // The successor dies, too, after each of its own writes.
                for next in 0.. {
                    let (device, mut function, mut orders) = prepared(who, step);
                    let answered = dying(&device, &mut function, writes, who, order);
                    orders.0[who] = Some((order, 4, answered));
                    device.let_driver_die_after(Some(next));
                    device.take_written();
                    let mut second = new_driver(&device);
                    let adopted = second.adopt(0, orders.records()).unwrap();
                    assert!(adopted.is_some(), "{order:?} {writes}: it runs");
                    let written = device.take_written();
                    assert!(!written.iter().any(|at| is_disturbing(*at)), "{written:x?}");
                    device.let_driver_die_after(None);
                    let other = if who == 0 { 1 } else { 0 };
                    assert_eq!(device.receivers(address(other)), 0b10_0000);
                    assert!(device.lets_out(5, address(other)));
                    assert!(device.lets_out(0, addresses()[0].unwrap()));
                    let (mut third, _) = successor(&device, &orders);
                    if !answered {
                        carry_out(&mut third, who, order);
                    }
                    let context = std::format!("{who} {order:?} {writes} {next}");
                    assert_eq!(state(&device), wanted, "{context}");
                    if written.len() < next {
                        break;
                    }
                }
                let (device, mut function, _) = prepared(who, step);
                if dying(&device, &mut function, writes, who, order) {
                    break;
                }
            }
        }
    }
}

/// Registers that are the driver's own, with the bits of them that are.
fn own_registers() -> Vec<(usize, u32)> {
    let all = u32::MAX;
    let mut registers = vec![
        (0x0000, 1 << 6),
        (0x0018, 1 << 14 | 1 << 28),
        (0x00d0, all),
        (0x0100, all),
        (0x0400, all),
        (0x0c84, all),
        (0x0c8c, all),
        (0x0c90, all),
        (0x1514, all),
        (0x1524, 1),
        (0x152c, 1),
        (0x1680, 0x7ffc),
        (0x1740, all),
        (0x2408, all),
        (0x3500, all),
        (0x5818, all),
        (0x581c, all),
    ];
    registers.extend((0..128).map(|index| (0x5200 + 4 * index, all)));
    registers.extend((0..32).map(|index| (0x5400 + 4 * index, all)));
    registers.extend((0..16).map(|index| (0x54e0 + 4 * index, all)));
    registers.extend((0..8).map(|index| (0x5ad0 + 4 * index, all)));
    registers
}

#[test]
fn a_single_damaged_register_is_corrected_and_no_other_is_written() {
    for (offset, mask) in own_registers() {
        for pattern in [0, u32::MAX, 0x5555_5555, 0xaaaa_aaaa, 1, 1 << 18, 1 << 31] {
            let (device, _, orders) = prepared(0, 2);
            let damaged = pattern & mask | device.get(offset) & !mask;
            if damaged == device.get(offset) {
                continue;
            }
            let wanted = device.registers();
            device.set(offset, damaged);
            device.take_written();
            let mut function = new_driver(&device);
            let adopted = function.adopt(0, orders.records()).unwrap();
            assert_eq!(adopted, Some(1), "{offset:x} {damaged:x}");
            let clears = |at: usize| (at, offset) == (0x00d8, 0x00d0);
            let written = device.take_written();
            assert!(
                written.iter().all(|at| *at == offset || clears(*at)),
                "{offset:x}: {written:x?}"
            );
            assert_eq!(device.registers(), wanted, "{offset:x} {damaged:x}");
        }
    }
}

#[test]
fn what_the_device_does_counts_where_no_order_is_known() {
    let (device, _, _) = prepared(0, 2);
    let wanted = state(&device);
    let mut function = new_driver(&device);
    assert_eq!(function.adopt(0, []), Ok(Some(0)));
    assert_eq!(state(&device), wanted);
    assert_eq!(device.receivers(address(0)), 0b1_0000);
    function.poll(0).unwrap();
    function.route(address(0), 0).unwrap();
    function.scrub(4).unwrap();
    assert_eq!(device.receivers(address(0)), 1);
}

#[test]
fn a_function_that_was_reset_while_nobody_looked_works_again() {
    for writes in 0..8 {
        let (device, mut function, orders) = prepared(0, 2);
        device.reset_function(4);
        device.reset_function(0);
        device.let_driver_die_after(Some(writes));
        let _ = function.poll(0);
        device.let_driver_die_after(None);
        let mut function = new_driver(&device);
        assert!(function.adopt(0, orders.records()).unwrap().is_some());
        let outcome = function.poll(0).unwrap();
        assert_eq!(outcome.ready, 0b11_0011);
        for enables in [0xc8c, 0xc90] {
            assert_eq!(device.get(enables), 0b11_0011, "{writes}");
        }
        assert_eq!(device.get(0xc88), 0);
    }
}

#[test]
fn routes_survive_a_device_that_must_be_reset() {
    let (device, _, orders) = prepared(0, 2);
    for offset in [0x5818, 0x581c, 0x1514] {
        device.set(offset, 0);
    }
    let (_, adopted) = successor(&device, &orders);
    assert_eq!(adopted, None, "it does not look like one that runs");
    for index in [0, 1, 4, 5] {
        start_queues(&device, index);
    }
    assert_eq!(device.receivers(address(0)), 0b1_0000);
    assert_eq!(device.receivers(address(1)), 0b10_0000);
}

#[test]
fn negotiation_is_started_again_only_if_the_transceiver_does_not_try() {
    let (device, _) = fresh();
    device.set(0x0008, 0x81);
    let negotiates = device.transceiver_control();
    assert_eq!(negotiates, 0x1140);
    for (found, left) in [
        (negotiates, negotiates),
        (0x1000, 0x1000),
        (0x0140, negotiates),
        (0x1940, negotiates),
        (0xffff, negotiates),
    ] {
        device.set_transceiver_control(found);
        let (_, adopted) = successor(&device, &Orders::default());
        assert_eq!(adopted, Some(0));
        assert_eq!(device.transceiver_control(), left, "{found:x}");
    }
    device.silence_transceiver();
    let mut function = new_driver(&device);
    function.adopt(0, []).unwrap();
    let mut failed = None;
    for now in [0, 100_000, 200_000, 300_000] {
        failed = function.poll(now).err();
    }
    assert_eq!(failed, Some(Error::TransceiverSilent));
}

#[test]
fn a_device_that_is_gone_is_not_adopted() {
    let device = device();
    device.set(0x0008, u32::MAX);
    let mut function = new_driver(&device);
    assert_eq!(function.adopt(0, []), Err(Error::NotPresent));
    assert_eq!(function.poll(0), Err(Error::NotPresent));
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![
        Just(Route::Unsettled),
        Just(Route::Home),
        any::<u8>().prop_map(Route::To),
        (0_u8..8).prop_map(Route::To),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let mac = prop_oneof![
        (0..APPLICATIONS).prop_map(address),
        any::<[u8; 6]>(),
        Just(MAC),
        Just(GROUP),
    ];
    let function = prop::option::of(prop_oneof![0_u8..8, any::<u8>()]);
    (mac, route(), function, any::<bool>()).prop_map(|(mac, route, function, works)| Record {
        mac,
        route,
        function,
        works,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever registers and records say, the device is taken over or reset, and everybody has the
    /// addresses that are his own.
    #[test]
    fn any_registers_and_any_records_are_borne(
        words in prop::collection::vec(
            (prop::sample::select(own_registers()), any::<u32>(), any::<bool>()), 0..300),
        other_words in prop::collection::vec((0_usize..0x8000, any::<u32>()), 0..50),
        records in prop::collection::vec(record(), 0..70),
    ) {
        let (device, _, _) = prepared(0, 2);
        for ((offset, _), value, flips) in words {
            let value = if flips { device.get(offset) ^ 1 << (value & 31) } else { value };
            device.set(offset, value);
        }
        for (word, value) in other_words {
            device.set(4 * word, value);
        }
        device.set(0x0008, STATUS_UP);
        let mut function = new_driver(&device);
        let _ = function.adopt(0, records.iter().copied()).unwrap();
        let mut now = 0;
        for _ in 0..100 {
            match function.poll(now) {
                Ok(outcome) => now = outcome.wake_at.unwrap(),
                Err(_) => return Ok(()),
            }
        }
        let running = matches!(function.state, State::Running { .. });
        prop_assert!(running);
        for index in 0..8 {
            start_queues(&device, index);
        }
        prop_assert_eq!(device.receivers(addresses()[0].unwrap()), 1);
        prop_assert_eq!(device.receivers(MAC), 2);
        for who in 0..APPLICATIONS {
            let receivers = device.receivers(address(who));
            prop_assert_eq!(receivers & !function.working(), 0);
        }
        for granted in [4, 5] {
            function.scrub(granted).unwrap();
        }
        prop_assert_eq!(device.receivers(address(0)) & GRANTABLE, 0);
    }
}
