//! What a request costs does not depend on how many connections are idle.
//!
//! Instructions are counted by single stepping a process of this same program,
//! so the numbers are exact and the same on each run.

mod support;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use segue_libos::*;
use smoltcp::iface::SocketHandle;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use support::*;

const REQUESTS: u64 = 4;

/// Asks for 1,000 bytes, and has the server's rounds counted if `counted`.
fn request(world: &mut World, handle: SocketHandle, counted: bool) {
    world
        .client(handle)
        .send_slice(&1000u64.to_le_bytes())
        .unwrap();
    let mut received = 0;
    while received < 1000 {
        world.step_client();
        if counted {
            raise(Signal::SIGUSR1).unwrap();
        }
        world.serve();
        if counted {
            raise(Signal::SIGUSR2).unwrap();
        }
        world.step_client();
        let socket = world.client(handle);
        while socket.can_recv() {
            received += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
    }
}

/// What the counted process does: `IDLE_CONNECTIONS` idle connections, one busy.
#[test]
#[ignore = "run by the other test, under its eyes"]
fn workload() {
    let idle: u16 = std::env::var("IDLE_CONNECTIONS").unwrap().parse().unwrap();
    let listen = ListenOptions {
        timeout: None,
        ..ListenOptions::default()
    };
    let buffers = BufferSizes {
        receive: 4096,
        send: 16_384,
    };
    let mut world = World::new(Settings {
        listen,
        buffers,
        buffer_memory: 64 * (4096 + 16_384),
        verified: true,
        ..Settings::default()
    });
    world.network.borrow_mut().delay = 0;
    for index in 0..idle {
        let handle = world.connect(SERVE, 10_000 + index);
        assert!(world.run(20, |world| world.client(handle).may_send()));
        request(&mut world, handle, false);
        world.run(1, |_| false);
    }
    let busy = world.connect(SERVE, 50_000);
    assert!(world.run(20, |world| world.client(busy).may_send()));
    for _ in 0..5 {
        request(&mut world, busy, false);
    }
    assert_eq!(world.stack.open_connections(), usize::from(idle) + 1);
    println!("\nthread {}", gettid());
    std::io::stdin().read_exact(&mut [0]).unwrap();
    for _ in 0..REQUESTS {
        request(&mut world, busy, true);
    }
    raise(Signal::SIGURG).unwrap();
}

/// Instructions that the server executes for a request.
fn instructions(idle: u16) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["workload", "--exact", "--ignored", "--nocapture"])
        .env("IDLE_CONNECTIONS", idle.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let thread = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("thread ")?.parse().ok())
        .map(Pid::from_raw)
        .expect("the counted process did not get ready");
    ptrace::attach(thread).expect("processes of our own cannot be traced here");
    let wait = || waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    wait();
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    let (mut count, mut counting) = (0, false);
    ptrace::cont(thread, None).unwrap();
    loop {
        match wait() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => count += u64::from(counting),
            WaitStatus::Stopped(_, Signal::SIGUSR1) => counting = true,
            WaitStatus::Stopped(_, Signal::SIGUSR2) => counting = false,
            WaitStatus::Stopped(_, Signal::SIGURG) => break,
            WaitStatus::Stopped(..) => {}
            other => panic!("the counted process ended: {other:?}"),
        }
        if counting {
            ptrace::step(thread, None).unwrap();
        } else {
            ptrace::cont(thread, None).unwrap();
        }
    }
    ptrace::detach(thread, None).unwrap();
    // What else the process prints must have somewhere to go.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    count / REQUESTS
}

#[test]
fn a_thousand_idle_connections_cost_a_busy_one_nothing() {
    let few = instructions(1);
    let many = instructions(1000);
    println!("{few} instructions a request with 1 idle connection, {many} with 1,000");
    assert!(few > 1000, "{few} instructions cannot be right");
    assert!(
        many * 100 < few * 105,
        "{few} instructions a request with 1 idle connection, {many} with 1,000"
    );
}
