//! The clients that are to notice what a switch of modes does to others, on a machine that does
//! nothing to them, and on one that is taken away.

use std::net::{Ipv4Addr, SocketAddrV4};

use segue_system_tests::background::{Downloads, RedisLoad};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const HTTP: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 80);
const KV: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 6379);
/// Downloads that are waited for.
const ENOUGH: u64 = 20;

#[test]
fn downloads_and_benchmarks_go_on_beside_each_other() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let machine = TestMachine::boot("http-kv", Cable::Tap);
    machine.expect_line("kv: listening on 10.0.2.15:6379");
    let namespace = machine.namespace().expect("the cable is a tap");
    let load = RedisLoad::start(namespace, KV, 4, 500);
    let downloads = Downloads::start(machine.host(), HTTP, "1m.bin", 2).expect("http answers");
    assert!(downloads.wait_for(ENOUGH), "{:?}", downloads.stop());
    let (downloaded, benchmarks) = (downloads.stop(), load.stop());
    println!("{downloaded:?}\n{benchmarks:?}");
    assert_eq!(downloaded.failures, [""; 0]);
    assert_eq!(downloaded.bytes, downloaded.completed << 20);
    assert_eq!(benchmarks.failure, None);
    assert!(!benchmarks.rounds.is_empty());
    for round in &benchmarks.rounds {
        let commands: Vec<&str> = round.iter().map(|rate| &*rate.command).collect();
        assert_eq!(commands, ["SET", "GET", "INCR"]);
    }
}

#[test]
fn a_machine_that_ends_is_noticed() {
    let mut machine = TestMachine::boot("files", Cable::Peer(1));
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 3).expect("http answers");
    assert!(downloads.wait_for(ENOUGH), "{:?}", downloads.stop());
    machine.stop();
    let downloaded = downloads.stop();
    println!("{downloaded:?}");
    // One may have had its last file just before.
    let broken = downloaded.broken + downloaded.resets;
    assert!((1..=3).contains(&broken), "{downloaded:?}");
    assert_eq!(downloaded.failures.len() as u64, broken, "{downloaded:?}");
    assert!(downloaded.completed >= ENOUGH && downloaded.wrong == 0);
}
