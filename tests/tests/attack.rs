//! The network server's service to others while one application attacks it.

use segue_system_tests::attack::{Attacked, Service};
use segue_system_tests::scenarios::may_make_tap_devices;

/// Of what it is without the attack.
const LEAST: f64 = 0.9;

/// Prints what is left of the service, and gives the bytes for each instruction of the server, and
/// the least that an application's share is of what it was.
fn compare(what: &str, before: &Service, during: &Service) -> (f64, f64) {
    let service = during.per_server_instruction() / before.per_server_instruction();
    let machine = during.per_instruction() / before.per_instruction();
    let shares = before.shares().into_iter().zip(during.shares());
    let least = shares
        .map(|(before, during)| during / before)
        .fold(f64::INFINITY, f64::min);
    println!(
        "{what}: {service:.3} of the bytes for each instruction of the server, the least share is \
         {least:.3} of what it was; {machine:.3} of the bytes for each instruction of the machine; \
         the rogue has sent {} times an application's bytes; the server took {:.3} of the instructions, before {:.3}",
        during.rogue * during.bytes.len() as u64 / during.bytes.iter().sum::<u64>().max(1),
        during.server as f64 / during.all as f64,
        before.server as f64 / before.all as f64,
    );
    (service, least)
}

#[test]
fn an_attacked_server_serves_the_others() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let mut attacked = Attacked::start();
    let mut before = attacked.measure();
    println!(
        "without: {:.3} bytes for each instruction of the server, {:.4} of the machine; shares {:.3?}",
        before.per_server_instruction(),
        before.per_instruction(),
        before.shares()
    );
    let mut worst = Vec::new();
    for what in [
        "nothing",
        "forged",
        "notifications",
        "inside",
        "neighbour",
        "broadcast",
        "small",
        "large",
    ] {
        attacked.tell(&format!("flood {what}"), &format!("flood of {what}: "));
        let during = attacked.measure();
        attacked.tell("stop", "rogue-application: stopped");
        // Compared with what was before and after: the host has its moods.
        let after = attacked.measure();
        worst.push((what, compare(what, &before.and(&after), &during)));
        before = after;
    }
    for (what, (service, share)) in worst {
        assert!(service >= LEAST, "{what}: {service:.3}");
        assert!(share >= LEAST, "{what}: {share:.3}");
    }
}
