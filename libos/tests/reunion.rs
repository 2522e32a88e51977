//! The network server dies with frames on their way to the stack, and another one starts:
//! connections go on at once, and do not wait until a timer notices the loss.

mod support;

use support::machine::*;
use support::switches::{download, settings};

/// Longest time without progress, in microseconds. The shortest probe comes after 100 ms.
const LONGEST_STALL: i64 = 20_000;

/// Peers answer a segment outside their window once a second or so.
const BETWEEN_DEATHS: i64 = 1_100_000;

#[test]
fn lost_acknowledgements_are_asked_for_at_once() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().gap = 500;
        let (mut last_death, mut deaths, mut lost) = (0, 0, 0);
        let (mut frames, mut since, mut longest) = (0, 0, 0);
        let length = 48 << 20;
        let at = download(&mut world, length, 600, |world| {
            let now = world.network.borrow().now;
            if now - last_death > BETWEEN_DEATHS {
                last_death = now;
                // Acknowledgements of all that is under way.
                for _ in 0..300 {
                    world.step_client();
                    lost += world.network.borrow_mut().lose();
                }
                machine.borrow_mut().reopen();
                since = world.network.borrow().now;
                deaths += 1;
            }
            let counters = world.stack.statistics().vif;
            let now = world.network.borrow().now;
            if counters.frames_in != frames {
                frames = counters.frames_in;
                since = now;
            }
            longest = longest.max(now - since);
        });
        assert_eq!(at, length);
        let statistics = world.stack.statistics();
        println!(
            "{deaths} deaths, {lost} frames lost, longest stall {longest} us, {} questions, {} probes",
            statistics.reunions, statistics.probes
        );
        assert!(deaths > 10 && lost > deaths);
        assert!(statistics.reunions > 0);
        assert!(longest < LONGEST_STALL, "{longest}");
        assert_eq!(statistics.probes, 0);
    }
}
