//! The port map against a model: a map from protocol and port to owner.

use proptest::prelude::*;
use segue_portmap_core::config::{OwnerEntry, OwnerTable};
use segue_portmap_core::protocol::{Message, Operation, Request, decode_answer};
use segue_portmap_core::table::EPHEMERAL_PORTS;
use segue_portmap_core::{
    Families, Family, Life, PortClient, PortError, PortReader, PortTable, Protocol, Service,
    TABLE_SIZE,
};
use segue_shared_memory::{Region, testing::leaked_region};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

const OWNERS: u16 = 3;

fn owners() -> OwnerTable {
    let mut table = OwnerTable::EMPTY;
    table.count = OWNERS.into();
    for owner in 1..=OWNERS {
        let mut name = [0; 64];
        name[0] = b'a' + owner as u8;
        table.entries[usize::from(owner) - 1] = OwnerEntry {
            name,
            channel: 60 - u32::from(owner),
            owner,
            reserved: 0,
        };
    }
    table
}

fn service(region: Region) -> Service {
    Service::new(PortTable::new(region).unwrap(), owners())
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

/// Few ports, neighbours among them (two share a word), and the ends.
fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(80),
        Just(81),
        Just(443),
        Just(49_152),
        Just(49_153),
        Just(65_535)
    ]
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (protocols(), ports()).prop_map(|(protocol, port)| Operation::Bind(protocol, port)),
        4 => protocols().prop_map(Operation::BindAny),
        6 => (protocols(), ports()).prop_map(|(protocol, port)| Operation::Release(protocol, port)),
        1 => Just(Operation::ReleaseAll),
    ]
}

type Model = HashMap<(Protocol, u16), u16>;

fn expected(model: &mut Model, owner: u16, operation: Operation, answer: Result<u32, PortError>) {
    match operation {
        Operation::Bind(_, 0) => assert_eq!(answer, Err(PortError::InvalidPort)),
        Operation::Bind(protocol, port) => {
            if let Entry::Vacant(entry) = model.entry((protocol, port)) {
                assert_eq!(answer, Ok(port.into()));
                entry.insert(owner);
            } else {
                assert_eq!(answer, Err(PortError::AddressInUse));
            }
        }
        Operation::BindAny(protocol) => {
            let port = answer.unwrap() as u16;
            assert!(EPHEMERAL_PORTS.contains(&port));
            assert_eq!(model.insert((protocol, port), owner), None);
        }
        Operation::Release(protocol, port) => {
            if model.get(&(protocol, port)) == Some(&owner) {
                assert_eq!(answer, Ok(port.into()));
                model.remove(&(protocol, port));
            } else {
                assert_eq!(answer, Err(PortError::NotOwner));
            }
        }
        Operation::ReleaseAll => {
            let before = model.len();
            model.retain(|_, holder| *holder != owner);
            // A port is counted once for each version of IP.
            assert_eq!(answer, Ok(2 * (before - model.len()) as u32));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_is_what_the_model_says(steps in prop::collection::vec((1..=OWNERS, operations(), any::<bool>()), 1..80)) {
        let region = leaked_region(TABLE_SIZE);
        let mut service = service(region);
        let reader = PortReader::new(region).unwrap();
        let mut model = Model::new();
        // Each caller's first request is special: make it one without effect.
        for owner in 1..=OWNERS {
            service.handle(60 - u32::from(owner), &Request { sequence: 0, operation: Operation::ReleaseAll }.encode());
        }
        for (sequence, (owner, operation, repeat)) in (1u64..).zip(steps) {
            let message = Request { sequence, operation }.encode();
            prop_assert_eq!(Request::decode(&message), Ok(Request { sequence, operation }));
            let reply = service.handle(60 - u32::from(owner), &message);
            if repeat {
                prop_assert_eq!(service.handle(60 - u32::from(owner), &message), reply);
            }
            expected(&mut model, owner, operation, decode_answer(sequence, &reply).unwrap());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in [79, 80, 81, 443, 49_152, 49_153, 49_154, 65_534, 65_535] {
                    let owner = model.get(&(protocol, port)).copied().unwrap_or(0);
                    prop_assert_eq!(reader.owner(Family::V4, protocol, port), owner);
                }
            }
        }
    }

    #[test]
    fn any_message_is_answered(channel in 0u32..64, label in 0u64..8, registers in any::<[u64; 3]>(), small in any::<[u8; 3]>()) {
        let mut service = service(leaked_region(TABLE_SIZE));
        for registers in [registers, small.map(u64::from)] {
            let reply = service.handle(channel, &Message { label, registers });
            let answer = decode_answer(registers[0], &reply);
            prop_assert!(answer.is_some());
            if !(57..60).contains(&channel) {
                prop_assert_eq!(answer, Some(Err(PortError::NotAllowed)));
            }
        }
    }
}

#[test]
fn a_full_range_is_said_to_be_full_and_can_be_emptied() {
    let region = leaked_region(TABLE_SIZE);
    let mut table = PortTable::new(region).unwrap();
    let count = EPHEMERAL_PORTS.count();
    for _ in 0..count {
        table.bind_any(2, Families::V4, Protocol::Udp).unwrap();
    }
    assert_eq!(
        table.bind_any(2, Families::V4, Protocol::Udp),
        Err(PortError::NoPortFree)
    );
    table.bind_any(2, Families::V4, Protocol::Tcp).unwrap();
    assert_eq!(table.release_all(2) as usize, count + 1);
    table.bind_any(1, Families::V4, Protocol::Udp).unwrap();
}

#[test]
fn cycles_leave_the_table_as_it_was() {
    let region = leaked_region(TABLE_SIZE);
    let mut table = PortTable::new(region).unwrap();
    for port in 1..=u16::MAX {
        table.bind(1, Families::V4, Protocol::Tcp, port).unwrap();
        table.release(1, Families::V4, Protocol::Tcp, port).unwrap();
    }
    let mut bytes = vec![0xff; TABLE_SIZE];
    region.read(0, &mut bytes);
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_repeated_request_is_safe_across_a_restart_of_the_port_map() {
    let region = leaked_region(TABLE_SIZE);
    let service_cell = RefCell::new(service(region));
    let mut lost = 0;
    let mut client = PortClient::new(|message| {
        let reply = service_cell.borrow_mut().handle(59, &message);
        lost += 1;
        if lost == 2 {
            // The port map has done its work and dies; its successor answers.
            *service_cell.borrow_mut() = service(region);
            return Message {
                label: u64::MAX,
                registers: [0; 3],
            };
        }
        reply
    });
    client.release_all().unwrap();
    client.bind(Protocol::Tcp, 80).unwrap();
    assert_eq!(client.bind(Protocol::Tcp, 80), Err(PortError::AddressInUse));
    client.release(Protocol::Tcp, 80).unwrap();
    assert_eq!(client.release(Protocol::Tcp, 80), Err(PortError::NotOwner));
}

#[test]
fn a_port_map_that_never_answers_is_an_error() {
    let mut calls = 0;
    let mut client = PortClient::new(|_| {
        calls += 1;
        Message {
            label: 99,
            registers: [0; 3],
        }
    });
    assert_eq!(client.bind_any(Protocol::Udp), Err(PortError::NoAnswer));
    assert_eq!(calls, 3);
}

#[test]
fn a_region_that_is_too_small_holds_no_table() {
    assert!(PortTable::new(leaked_region(TABLE_SIZE - 8)).is_none());
}

#[test]
fn who_is_gone_has_no_ports_and_gets_none() {
    let mut service = service(leaked_region(TABLE_SIZE));
    let channel = |owner: u16| 60 - u32::from(owner);
    let bind = |service: &mut Service, owner, port, sequence| {
        let request = Request {
            sequence,
            operation: Operation::Bind(Protocol::Tcp, port),
        };
        let answer = service.handle(channel(owner), &request.encode());
        decode_answer(sequence, &answer).expect("it is the answer to this")
    };
    for (sequence, port) in [(1, 80), (2, 81), (3, 82)] {
        assert_eq!(bind(&mut service, 1, port, sequence), Ok(port.into()));
    }
    assert_eq!(bind(&mut service, 2, 443, 1), Ok(443));
    assert_eq!(bind(&mut service, 2, 80, 2), Err(PortError::AddressInUse));
    let entry = |name: &str| {
        let entries = owners();
        let found = entries
            .owners()
            .iter()
            .position(|owner| owner.name() == name);
        found.expect("an owner")
    };
    let note = |service: &mut Service, restarts, is_gone| {
        service.note(entry("b"), Life { restarts, is_gone })
    };
    assert_eq!(note(&mut service, 0, false), None);
    assert_eq!(note(&mut service, 0, true), Some(6));
    // Once is enough; and it cannot come back by itself.
    assert_eq!(note(&mut service, 0, true), None);
    assert_eq!(bind(&mut service, 1, 80, 4), Err(PortError::NotAllowed));
    assert_eq!(bind(&mut service, 2, 80, 3), Ok(80));
    assert_eq!(service.table().owner(Family::V4, Protocol::Tcp, 443), 2);
    // When it is there again, it is one like the others.
    assert_eq!(note(&mut service, 1, false), None);
    assert_eq!(bind(&mut service, 1, 80, 1), Err(PortError::AddressInUse));
    assert_eq!(bind(&mut service, 1, 81, 2), Ok(81));
    // A life whose end nobody saw has ended all the same, and its successor, which
    // sends the same first request, is not answered what its predecessor was.
    assert_eq!(note(&mut service, 2, false), Some(2));
    assert_eq!(service.table().owner(Family::V4, Protocol::Tcp, 81), 0);
    assert_eq!(bind(&mut service, 1, 81, 2), Ok(81));
    assert_eq!(service.table().owner(Family::V4, Protocol::Tcp, 81), 1);
    assert_eq!(note(&mut service, 2, false), None);
    // Nor does it matter if it ended twice, or has ended again.
    assert_eq!(note(&mut service, 4, true), Some(2));
    assert_eq!(note(&mut service, 5, true), None);
}
