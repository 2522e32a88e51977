//! Switches between network server and virtual function while traffic flows: a tenth of what a
//! campaign does.

use segue_system_tests::distribution::Distribution;
use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{interruptions, switches_under_load};

#[test]
fn clients_notice_no_switch() {
    switches_under_load(100, seed());
}

/// The limits are virtual time: instructions of the machine, whatever the host does meanwhile.
#[test]
fn a_switch_interrupts_a_stream_for_less_than_two_milliseconds() {
    let found = interruptions(20, seed());
    found.print();
    for gaps in [&found.to_direct, &found.to_server] {
        let gaps = Distribution::new(gaps.clone());
        assert!(gaps.median() <= Some(2_000), "{gaps}");
        assert!(gaps.maximum() <= Some(20_000), "{gaps}");
    }
    assert_eq!((found.missing, found.doubled), (0, 0), "{found:?}");
}
