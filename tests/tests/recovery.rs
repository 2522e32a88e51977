//! Faults of servers while traffic flows: a tenth of what a campaign does.

use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{faults, faults_elsewhere, outages};

#[test]
fn clients_notice_no_fault_of_the_network_server() {
    faults(200, seed());
}

#[test]
fn clients_notice_no_fault_of_another_server() {
    faults_elsewhere(20, seed());
}

#[test]
fn a_fault_interrupts_a_stream_for_less_than_twenty_milliseconds() {
    let found = outages(50, seed());
    found.print();
    found.judge();
}
