//! Applications in direct mode with the clients that people use.

use std::net::SocketAddrV4;
use std::process::Command;

use segue_qemu::NetworkNamespace;
use segue_system_tests::background::{Downloads, RedisLoad};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::switching::Switcher;
use segue_system_tests::systems::KV_ADDRESS;
use segue_system_tests::{Cable, TestMachine, files};

use crate::{HTTP, LIMIT, assert_undisturbed};

/// Runs a program of this system at the other end of the cable; what it prints.
fn run(namespace: &NetworkNamespace, program: &str, arguments: &[&str]) -> Vec<u8> {
    let command = || {
        let mut command = Command::new("timeout");
        command.args(["120", program]).args(arguments).output()
    };
    let output = namespace.run(command).expect("the namespace is there");
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    output.stdout
}

fn text(namespace: &NetworkNamespace, program: &str, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&run(namespace, program, arguments)).into_owned()
}

#[test]
fn curl_wrk_ping_and_redis_find_no_difference() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let mut machine = TestMachine::boot("switching", Cable::Tap);
    machine.expect_line("kv: listening on 10.0.2.20:6379");
    for name in ["http", "kv"] {
        let line = Switcher::new(&mut machine).limit(LIMIT).to_direct(name);
        println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    }
    let namespace = &*machine.namespace().expect("the cable is a tap");
    for (version, host) in [("-4", "10.0.2.15"), ("-6", "[fd00:5e60::15]")] {
        for name in ["1k.bin", "128k.bin", "1m.bin"] {
            let url = format!("http://{host}/{name}");
            let body = run(namespace, "curl", &["-gsSf", version, &url]);
            assert!(body == files::contents(name), "{url} differs");
        }
    }
    for host in ["10.0.2.15", "fd00:5e60::15", "10.0.2.20", "fd00:5e60::20"] {
        for size in ["56", "1400"] {
            let arguments = ["-c", "5", "-i", "0.2", "-s", size, host];
            let said = text(namespace, "ping", &arguments);
            assert!(said.contains("5 received, 0% packet loss"), "{said}");
        }
    }
    let arguments = ["-t", "1", "-c", "16", "-d", "3", "http://10.0.2.15/8k.bin"];
    let said = text(namespace, "wrk", &arguments);
    println!("{said}");
    for wrong in ["Non-2xx", "Socket errors"] {
        assert!(!said.contains(wrong), "{said}");
    }

    let kv = KV_ADDRESS.to_string();
    for host in [kv.as_str(), "fd00:5e60::20"] {
        for (command, answer) in [
            (&["PING"][..], "PONG"),
            (&["SET", "mode", "direct"], "OK"),
            (&["GET", "mode"], "direct"),
        ] {
            let arguments = [&["-h", host][..], command].concat();
            let said = text(namespace, "redis-cli", &arguments);
            assert_eq!(said.trim(), answer, "{command:?}");
        }
    }
    let arguments = [
        "-h", &kv, "-t", "set,get", "-c", "16", "-n", "2000", "-P", "8", "-q",
    ];
    println!("{}", text(namespace, "redis-benchmark", &arguments));

    // Both at once, as they go back and return.
    let load = RedisLoad::start(
        machine.namespace().expect("a tap"),
        SocketAddrV4::new(KV_ADDRESS, 6379),
        4,
        500,
    );
    let downloads = Downloads::start(machine.host(), HTTP, "1m.bin", 2).expect("http answers");
    for _ in 0..3 {
        for name in ["http", "kv"] {
            let before = downloads.completed();
            let mut switcher = Switcher::new(&mut machine).limit(LIMIT);
            switcher
                .to_server(name)
                .unwrap_or_else(|error| panic!("{error}"));
            switcher
                .to_direct(name)
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(downloads.wait_for(before + 1), "{:?}", downloads.stop());
        }
    }
    assert_undisturbed("http", &downloads.stop());
    let benchmarks = load.stop();
    println!("{benchmarks:?}");
    assert_eq!(benchmarks.failure, None);
    assert!(!benchmarks.rounds.is_empty());
}
