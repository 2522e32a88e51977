//! Streams go on while the stack changes between the network server and a function of its
//! own, again and again, and nobody at the other end notices.

mod support;

use proptest::prelude::*;
use support::machine::*;
use support::order::Order;
use support::switches::*;
use support::*;

fn assert_nothing_lost(world: &World) {
    let statistics = world.stack.statistics();
    assert_eq!(statistics.retransmissions, 0);
    assert_eq!(statistics.vif.refused, 0);
    assert_eq!(statistics.duplicate_address, 0);
    let network = world.network.borrow();
    let order = network.streams.as_ref().unwrap();
    assert_eq!((order.early, order.late), (0, 0));
}

#[test]
fn downloads_go_on_over_hundreds_of_switches() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().streams = Some(Order::default());
        world.network.borrow_mut().gap = 12;
        let mut switches = Switches::new(&machine);
        let mut numbers = Numbers(7);
        let length = 64 << 20;
        let at = download(&mut world, length, 600, |world| {
            if numbers.chance(300) {
                machine.borrow_mut().pause = (numbers.next() % 20) as u32;
            }
            if numbers.chance(700) {
                switches.next(world);
            }
        });
        assert_eq!(at, length);
        assert_nothing_lost(&world);
        let counters = world.stack.statistics().vif;
        println!("{} switches, {counters:?}", switches.done);
        assert!(switches.done > 100, "{}", switches.done);
        assert!(counters.duplicates > 0);
        assert!(
            machine
                .borrow()
                .inside
                .iter()
                .all(|frame| frame[0] & 1 != 0)
        );
        let device = machine.borrow().device.clone().unwrap();
        assert_eq!(device.complaints(), [""; 0]);
        assert_eq!(device.missed(), 0);
    }
}

#[test]
fn uploads_go_on_over_hundreds_of_switches() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().streams = Some(Order::default());
        world.network.borrow_mut().gap = 12;
        let mut switches = Switches::new(&machine);
        let mut numbers = Numbers(9);
        upload(&mut world, 8 << 20, |world| {
            if numbers.chance(700) {
                switches.next(world);
            }
        });
        assert_nothing_lost(&world);
        assert!(switches.done > 20, "{}", switches.done);
    }
}

#[test]
fn a_function_that_is_taken_away_leaves_nothing_unsent() {
    let (mut world, machine, mut switches) = world_at(IN_DIRECT_MODE);
    let mut taken = 0;
    let length = 16 << 20;
    let at = download(&mut world, length, 60, |world| {
        switches.go(world, IN_DIRECT_MODE);
        taken += 1;
        if taken % 50 != 0 {
            return;
        }
        // Frames are given to it, and it does not send them.
        let device = machine.borrow().device.clone().unwrap();
        device.set_transmit_budget(0);
        for _ in 0..20 {
            world.serve();
            world.step_client();
        }
        // All at once, and by force.
        machine.borrow_mut().direct = false;
        machine.borrow_mut().route = Route::Server;
        device.remove();
        assert!(world.stack.detach().is_some());
        switches.step = 0;
        world.serve();
    });
    assert_eq!(at, length);
    let statistics = world.stack.statistics();
    assert!(statistics.vif.repeated > 10, "{statistics:?}");
    assert_eq!(statistics.retransmissions, 0);
}

#[test]
fn a_server_that_goes_away_on_the_way_to_direct_mode_leaves_nothing_unsent() {
    for comes_again in [true, false] {
        let (mut world, machine) = Machine::world(settings(false));
        let mut switches = Switches::new(&machine);
        let mut round = 0;
        let length = 8 << 20;
        let at = download(&mut world, length, 60, |world| {
            round += 1;
            if round != 20 {
                return;
            }
            switches.go(world, 3);
            // The server does not get to what it is given.
            machine.borrow_mut().pause = 100;
            for _ in 0..20 {
                world.serve();
                world.step_client();
            }
            switches.next(world);
            world.serve();
            if comes_again {
                machine.borrow_mut().reopen();
            } else {
                machine.borrow_mut().close();
            }
            world.serve();
            machine.borrow_mut().direct = true;
            machine.borrow_mut().pause = 0;
        });
        assert_eq!(at, length);
        assert_eq!(machine.borrow().is_up(), comes_again);
        let statistics = world.stack.statistics();
        assert!(statistics.vif.repeated > 0);
        assert_eq!(statistics.retransmissions, 0);
        assert!(world.stack.is_direct());
    }
}

#[test]
fn a_server_may_come_and_go_while_nobody_needs_it() {
    let (mut world, machine) = Machine::world(settings(false));
    let mut switches = Switches::new(&machine);
    let mut numbers = Numbers(3);
    let length = 32 << 20;
    let mut opened = 0;
    let at = download(&mut world, length, 60, |world| {
        if numbers.chance(600) {
            switches.next(world);
        }
        if numbers.chance(50) {
            machine.borrow_mut().reopen();
            opened += 1;
        }
    });
    assert_eq!(at, length);
    assert!(
        opened > 10 && switches.done > 10,
        "{opened} {}",
        switches.done
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens between, and whenever: each byte comes once and in its place; and
    /// as long as nobody goes away by force, nothing is sent twice.
    #[test]
    fn streams_survive_whatever_the_legs_do(
        events in prop::collection::vec((0u8..10, 0u32..40), 1..200),
        ipv6 in any::<bool>(),
        down in any::<bool>(),
        force in any::<bool>(),
    ) {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().streams = Some(Order::default());
        world.network.borrow_mut().gap = 12;
        let mut switches = Switches::new(&machine);
        let mut events = events.into_iter();
        let between = |world: &mut World| {
            let Some((event, number)) = events.next() else {
                return;
            };
            match event {
                0..6 => switches.next(world),
                6 => machine.borrow_mut().pause = number,
                7 => for _ in 0..number / 8 {
                    world.step_client();
                    world.serve();
                },
                8 if force => machine.borrow_mut().reopen(),
                9 if force => {
                    let device = machine.borrow().device.clone();
                    if let Some(device) = device {
                        device.set_transmit_budget(number as usize);
                    }
                    world.serve();
                    machine.borrow_mut().direct = false;
                    machine.borrow_mut().route = Route::Server;
                    world.stack.detach();
                    switches.step = 0;
                }
                _ => {}
            }
        };
        if down {
            prop_assert_eq!(download(&mut world, 4 << 20, 60, between), 4 << 20);
        } else {
            upload(&mut world, 2 << 20, between);
        }
        if !force {
            assert_nothing_lost(&world);
        }
    }
}
