//! Switches between network server and virtual function while traffic flows: a tenth of what a
//! campaign does.

use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{interruptions, switches_under_load};

#[test]
fn clients_notice_no_switch() {
    switches_under_load(100, seed());
}

#[test]
fn a_switch_interrupts_a_stream_for_less_than_two_milliseconds() {
    let found = interruptions(100, seed());
    found.print();
    found.judge();
}
