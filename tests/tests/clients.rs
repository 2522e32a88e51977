//! Two HTTP applications behind one address with the clients that people use.

use std::process::{Command, Output};

use segue_qemu::NetworkNamespace;
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine, files};

const PORTS: [u16; 2] = [80, 81];

/// Runs a program of this system at the other end of the cable.
fn command(namespace: &NetworkNamespace, program: &str, arguments: &[&str]) -> Output {
    let output = namespace.run(|| {
        Command::new("timeout")
            .args(["60", program])
            .args(arguments)
            .output()
    });
    let output = output
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The number before these words of what `wrk` says.
fn requests(text: &str) -> u64 {
    let number = text.lines().find_map(|line| {
        let (before, _) = line.split_once(" requests in ")?;
        before.trim().parse().ok()
    });
    number.unwrap_or_else(|| panic!("no number of requests in\n{text}"))
}

#[test]
fn two_applications_serve_curl_wrk_and_ping() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let machine = TestMachine::boot("four", Cable::Tap);
    let namespace = &*machine.namespace().expect("the cable is a tap");
    for port in PORTS {
        for name in ["1k.bin", "128k.bin", "1m.bin"] {
            let url = format!("http://10.0.2.15:{port}/{name}");
            let output = command(namespace, "curl", &["-sSf", &url]);
            assert!(output.stdout == files::contents(name), "{url} differs");
        }
    }
    // A port of nobody refuses at once.
    let refused = namespace.run(|| {
        Command::new("curl")
            .args(["-sS", "-m", "20", "http://10.0.2.15:1010/"])
            .output()
    });
    let refused = refused.expect("the namespace is there").expect("curl runs");
    assert_eq!(refused.status.code(), Some(7), "curl: {refused:?}");

    let counts: Vec<u64> = std::thread::scope(|scope| {
        let threads = PORTS.map(|port| {
            scope.spawn(move || {
                let url = format!("http://10.0.2.15:{port}/8k.bin");
                let arguments = ["-t", "1", "-c", "16", "-d", "3", &url];
                let output = command(namespace, "wrk", &arguments);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                for wrong in ["Non-2xx", "Socket errors"] {
                    assert!(!text.contains(wrong), "port {port}:\n{text}");
                }
                requests(&text)
            })
        });
        let results = threads.map(|thread| thread.join().expect("wrk has no errors"));
        results.to_vec()
    });
    println!("wrk: {counts:?} requests to two applications in the same 3 s");
    assert!(counts.iter().all(|&count| count > 100), "{counts:?}");

    for arguments in [
        ["-c", "5", "-i", "0.2", "-s", "56", "10.0.2.15"],
        ["-c", "5", "-i", "0.2", "-s", "1472", "10.0.2.15"],
    ] {
        let output = command(namespace, "ping", &arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("5 received, 0% packet loss"), "{text}");
    }
}
