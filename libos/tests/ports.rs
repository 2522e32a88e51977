//! Which ports a stack has, and when it gives them back.

mod support;

use segue_libos::*;
use smoltcp::socket::tcp;
use std::cell::RefCell;
use std::rc::Rc;
use support::ports::*;
use support::*;

fn world() -> (World, Rc<RefCell<Ledger>>) {
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let world = World::new(Settings {
        authority: Box::new(Clerk(ledger.clone())),
        ..Settings::default()
    });
    (world, ledger)
}

fn listener_of(world: &World) -> ListenerId {
    world.application.serve.expect("nobody listens")
}

#[test]
fn a_port_stays_with_its_connections_after_the_listener() {
    let (mut world, ledger) = world();
    assert!(ledger.borrow().has(Protocol::Tcp, SERVE));
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    assert!(world.run(5, |world| !world.application.open().is_empty()));
    let listener = listener_of(&world);
    world.stack.close_listener(listener);
    // It goes on, and no new one is accepted.
    request(&mut world, handle, 30_000);
    let late = world.connect(SERVE, 50_001);
    assert!(world.run(5, |world| world.client(late).state() == tcp::State::Closed));
    assert!(ledger.borrow().has(Protocol::Tcp, SERVE));
    // The client closes first: nothing of it stays here.
    world.client(handle).close();
    assert!(world.run(5, |world| world.stack.open_connections() == 0));
    assert_eq!(world.stack.time_wait_entries(), 0);
    assert!(!ledger.borrow().has(Protocol::Tcp, SERVE));
    assert!(ledger.borrow().has(Protocol::Tcp, SINK));
    assert_eq!(world.stack.open_ports(), 1);
    // Closing it again does nothing, nor does it to a listener that came later.
    let again = world.stack.listen(SERVE, ListenOptions::default()).unwrap();
    world.stack.close_listener(listener);
    assert_ne!(again, listener);
    assert!(ledger.borrow().has(Protocol::Tcp, SERVE));
}

#[test]
fn a_port_stays_until_the_last_time_wait() {
    let (mut world, ledger) = world();
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    request(&mut world, handle, 1000 | CLOSE);
    world.client(handle).close();
    assert!(world.run(5, |world| world.stack.time_wait_entries() == 1));
    let listener = listener_of(&world);
    world.stack.close_listener(listener);
    let closed = world.now();
    assert!(ledger.borrow().has(Protocol::Tcp, SERVE));
    assert!(world.run(30, |_| !ledger.borrow().has(Protocol::Tcp, SERVE)));
    assert!(world.now() >= closed + Duration::from_secs(9));
    assert_eq!(world.stack.time_wait_entries(), 0);
    let holds = ledger.borrow().holds.clone();
    assert_eq!(holds.len(), 1);
    assert_eq!((holds[0].0, holds[0].1), (Protocol::Tcp, SERVE));
    assert!(holds[0].2 >= Duration::from_secs(10));
}

#[test]
fn closing_a_listener_ends_its_handshakes() {
    let (mut world, _) = world();
    world.network.borrow_mut().sniff = Some(vec![]);
    let mut forged = forged::Forged::new(4000, SERVE, forged::SYN);
    world.network.borrow_mut().inject(forged.frame());
    world.serve();
    let answer = forged::answers(&mut world);
    assert_eq!(answer.len(), 1);
    let ours = answer[0].1;
    assert_eq!(world.stack.open_handshakes(), 1);
    // And a connection that the application has not been told of.
    let handle = world.connect(SERVE, 50_000);
    for _ in 0..10 {
        world.step_client();
        let now = world.now();
        world.stack.poll(now);
        world.stack.flush(now);
    }
    assert_eq!(world.stack.open_connections(), 1);
    let listener = listener_of(&world);
    forged::answers(&mut world);
    world.stack.close_listener(listener);
    assert_eq!(world.stack.open_handshakes(), 0);
    assert_eq!(world.stack.next_event(), None);
    assert_eq!(world.stack.open_connections(), 0);
    let resets = forged::answers(&mut world);
    assert_eq!(resets.len(), 2);
    assert!(resets.iter().all(|reset| reset.0 & forged::RST != 0));
    assert!(resets.contains(&(forged::RST | forged::ACK, ours.wrapping_add(1), 1001, 4000)));
    assert!(world.run(5, |world| world.client(handle).state()
        == tcp::State::Closed));
    assert_eq!(world.stack.open_ports(), 1);
    // What completes the handshake now is refused.
    forged.flags = forged::ACK;
    forged.sequence += 1;
    forged.acknowledgement = ours.wrapping_add(1);
    world.network.borrow_mut().inject(forged.frame());
    world.serve();
    let answer = forged::answers(&mut world);
    assert_eq!((answer.len(), answer[0].0), (1, forged::RST));
}

#[test]
fn a_busy_listener_seldom_speaks_of_time_wait() {
    let (mut world, ledger) = world();
    let start = world.now();
    let (mut seen, mut held_until) = (0, start);
    for index in 0..200 {
        let handle = world.connect(SERVE, 10_000 + index);
        assert!(world.run(5, |world| world.client(handle).may_send()));
        request(&mut world, handle, 1000 | CLOSE);
        world.client(handle).close();
        assert!(world.run(5, |world| world.stack.time_wait_entries() > 0
            && world.stack.open_connections() == 0));
        if let Some(&(_, _, duration)) = ledger.borrow().holds.get(seen) {
            seen += 1;
            held_until = world.now() + duration;
        }
        // At each moment the port is held as long as is needed.
        assert!(
            held_until >= world.now() + Duration::from_millis(9_900),
            "{index}"
        );
        // The client waits out its own time.
        let pause = world.now() + Duration::from_millis(200);
        world.run(1, |world| world.now() >= pause);
    }
    let seconds = (world.now() - start).secs() as usize;
    let holds = ledger.borrow().holds.len();
    assert!(
        seconds >= 30 && holds <= 1 + seconds / 5,
        "{holds} in {seconds} s"
    );
}
