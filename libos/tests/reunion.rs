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

/// Times in a row that all is lost, most of them retransmissions: the next one is seconds away then.
const LOST_RETRANSMISSIONS: u64 = 7;

#[test]
fn after_a_long_outage_nobody_waits_for_the_timeout() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().gap = 500;
        let (mut begun, mut ended, mut lost) = (None, None, 0);
        let (mut frames, mut since, mut longest) = (0, 0, 0);
        let length = 8 << 20;
        let at = download(&mut world, length, 600, |world| {
            let now = world.network.borrow().now;
            let statistics = world.stack.statistics();
            let frames_out = statistics.vif.frames_out;
            if statistics.vif.frames_in < 500 {
                return;
            }
            if ended.is_none() {
                // Whatever is on its way is gone.
                let now_lost = world.network.borrow_mut().lose_all();
                lost += u64::from(now_lost > 0);
                begun.get_or_insert(now);
                if now_lost == 0 || lost < LOST_RETRANSMISSIONS {
                    return;
                }
                // It is known as sent, and is not handed in again.
                world.serve();
                world.serve();
                world.network.borrow_mut().lose_all();
                ended = Some(now);
                machine.borrow_mut().reopen();
                since = now;
            }
            if frames_out != frames {
                (frames, since) = (frames_out, now);
            }
            longest = longest.max(now - since);
        });
        assert_eq!(at, length);
        let outage = ended.unwrap() - begun.unwrap();
        println!(
            "{lost} times frames were lost in {outage} us, longest stall after it {longest} us"
        );
        assert!(outage > 2_000_000, "{outage}");
        assert!(longest < LONGEST_STALL, "{longest}");
        assert!(world.stack.statistics().probes >= 3, "all of them lost");
    }
}
