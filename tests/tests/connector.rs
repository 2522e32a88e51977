//! An application that opens connections: to another one behind the same address, and to a host
//! outside.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine, files};

/// Connections to each of four targets.
const CONNECTIONS: u64 = 1000;
const ECHO_PORT: u16 = 7000;

/// The second application, behind the address of the first.
fn connector(checksum: u64, length: usize) -> String {
    format!(
        r#"
    <protection_domain name="connector" priority="100" stack_size="0x10000">
        <program_image path="segue-connector"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
        <setvar symbol="outside_port" value="{ECHO_PORT}"/>
        <setvar symbol="connections" value="{CONNECTIONS}"/>
        <setvar symbol="body_length" value="{length}"/>
        <setvar symbol="body_checksum" value="{checksum}"/>
    </protection_domain>
    <frame_channel server="netserver" client="connector" portmap="portmap" io_address_space="netserver_io"
                   pool_size="0x200000" transmit_entries="256" receive_entries="256"
                   mac="nic.vf0" ipv4="10.0.2.15/24" gateway="10.0.2.2"
                   ipv6="fd00:5e60::15/64" ipv6_gateway="fd00:5e60::2"/>
    <channel><end pd="connector" id="1" pp="true" setvar_id="timer_channel"/><end pd="timer" id="40"/></channel>
</system>"#
    )
}

/// Sends back what comes, until the other side closes.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 65_536];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn serve(machine: &TestMachine, address: &str) {
    let namespace = machine.namespace().expect("the cable is a tap");
    let listener = namespace
        .run(|| TcpListener::bind((address, ECHO_PORT)))
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The connector notices what goes wrong here.
            thread::spawn(move || echo(stream));
        }
    });
}

#[test]
fn an_application_connects_inside_and_outside() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let body = files::contents("8k.bin");
    let more = connector(files::checksum(&body), body.len());
    let image = build_system("files", |text| text.replace("</system>", &more));
    let image = OwnImage::new("connector", &image.bytes);
    let machine = TestMachine::start(image.machine(), Cable::Tap);
    serve(&machine, "10.0.2.2");
    serve(&machine, "fd00:5e60::2");
    for (remote, length) in [
        ("10.0.2.15:80", body.len() as u64),
        ("[fd00:5e60::15]:80", body.len() as u64),
        ("10.0.2.2:7000", 10_007),
        ("[fd00:5e60::2]:7000", 10_007),
    ] {
        let bytes = CONNECTIONS * length;
        let line = format!("{CONNECTIONS} connections to {remote}, {bytes} bytes, all right");
        println!("{}", machine.expect_line(&line));
    }
    // It waits out TIME_WAIT; then neither it nor the port map knows a port of it but the two
    // (of both versions of IP) that it takes for a UDP socket before it faults.
    let over = "connector: all ports are back: 0 connections open, 0 in TIME_WAIT";
    println!("{}", machine.expect_line(over));
    let gone = machine.expect_line("portmap: connector is gone: ");
    println!("{gone}");
    assert!(
        gone.ends_with("connector is gone: 2 ports were taken back"),
        "{gone}"
    );
    machine.assert_page_loads();
}
