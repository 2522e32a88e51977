//! Failures while traffic flows: a tenth of what a campaign does.

use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{
    corruptions, device_troubles, faults, faults_elsewhere, given_up, outages, upgrades,
};

#[test]
fn clients_notice_no_fault_of_the_network_server() {
    faults(200, seed());
}

#[test]
fn clients_notice_no_fault_of_another_server() {
    faults_elsewhere(20, seed());
}

#[test]
fn who_faults_over_and_over_is_given_up_and_the_rest_goes_on() {
    given_up();
}

#[test]
fn a_fault_interrupts_a_stream_for_less_than_twenty_milliseconds() {
    let found = outages(30, seed());
    found.print();
    found.judge();
}

#[test]
fn nobody_else_is_hurt_by_broken_memory() {
    corruptions(50, seed());
}

#[test]
fn clients_notice_no_upgrade() {
    upgrades(10, seed());
}

#[test]
fn a_card_that_is_silent_or_stops_is_noticed() {
    device_troubles();
}
