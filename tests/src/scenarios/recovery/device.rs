//! A network card that does not do what it should, as seen by those who drive its functions.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use super::{Session, is_possible};
use crate::guest_memory::Debugger;
use crate::host::Connection;
use crate::http::Client;
use crate::systems::DIRECT_ADDRESS;

/// Where the registers of virtual functions 0 (the network server's) and 1 (granted) are.
const FUNCTIONS: [u64; 2] = [0xe010_0000, 0xe010_4000];
/// Who answers through them.
const SERVERS: [SocketAddrV4; 2] = [
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80),
    SocketAddrV4::new(DIRECT_ADDRESS, 80),
];
/// 82576 datasheet, section 8.27: VTEIMC, RXDCTL and TXDCTL of a virtual function.
const INTERRUPT_MASK_CLEAR: u64 = 0x1528;
const QUEUE_CONTROLS: [u64; 2] = [0x2828, 0x3828];
/// VFTE of the physical function (82576 datasheet, section 8.10.29): which functions may send.
const TRANSMIT_ENABLE: u64 = 0xe000_0c90;
/// What is said of functions that may not send: the network server's is reset, the other one given back.
const RESETS: [[&str; 2]; 2] = [
    [
        "the network card still sends no frame: its function is reset",
        "virtual function 0 was reset by its user and is enabled again",
    ],
    [
        "http-direct gives virtual function 1 back: the device does not do what it must",
        "http-direct is in server mode",
    ],
];
/// Longer than a function without work used to be watched.
const IDLE: Duration = Duration::from_secs(4);

/// Interrupts that never come, queues that stop by themselves, and a function that sends nothing although
/// all that its driver can read is as it should be; of the network server's function and of one that an
/// application drives: connections go on, and nobody is restarted.
pub fn device_troubles() {
    if !is_possible() {
        return;
    }
    let mut session = Session::boot();
    let mut clients = SERVERS.map(|server| {
        let connection = session.machine().host().connect_to(server);
        Client::new(connection.expect("it answers"))
    });
    let all: Vec<String> = session.names();
    let before: Vec<u64> = all.iter().map(|name| session.restarts(name)).collect();
    for (client, registers) in clients.iter_mut().zip(FUNCTIONS) {
        get(client, "before anything has happened");
        // The card has work for nobody meanwhile; then it has, and does not say so.
        for _ in 0..2 {
            thread::sleep(IDLE);
            set(&session, registers + INTERRUPT_MASK_CLEAR, u32::MAX);
            get(client, "an interrupt has not come");
        }
        for control in QUEUE_CONTROLS {
            set(&session, registers + control, 0);
            get(client, "a queue has stopped");
        }
    }
    for (client, lines) in clients.iter_mut().zip(RESETS) {
        set(&session, TRANSMIT_ENABLE, 0);
        get(client, "the function may not send");
        for line in lines {
            session.machine().expect_line(line);
        }
    }
    session.to_direct();
    get(&mut clients[1], "it has a function again");
    let after: Vec<u64> = all.iter().map(|name| session.restarts(name)).collect();
    assert_eq!(before, after, "of {all:?} somebody was restarted");
    let anew = "the network card was reset, or sends no frame: it is started anew";
    session.machine().expect_line(anew);
    session.judge();
}

/// Writes a register from outside.
fn set(session: &Session, address: u64, value: u32) {
    let debugger = Debugger::connect(&session.debugger());
    let written = debugger.and_then(|mut debugger| debugger.write(address, &value.to_le_bytes()));
    written.expect("QEMU's debugger stub writes it");
}

fn get(client: &mut Client<Connection>, what: &str) {
    let answer = client.get("/1k.bin");
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.status, 200, "{what}");
}
