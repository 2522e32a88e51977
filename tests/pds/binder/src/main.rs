//! Test: binds and releases ports 65,536 times at the real port map, then compares the region
//! of both its tables, of which it has a mapping to read, with what it was.
//!
//! It looks at every word of the region. So that the comparison is known to see something, it
//! is also made while a port is bound, and while one is held.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Acquire;

use segue_frame_channel::config::ClientConfig;
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{Families, PortClient, PortError, Protocol, REGION_SIZE};
use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, get_mr, protection_domain, region,
    set_mr, var,
};

const CYCLES: u32 = 65_536;
/// A port that is bound in between, and one that is held.
const PORTS: [u16; 2] = [8080, 8081];
const HOLD_MILLISECONDS: u32 = 60_000;

struct Binder;

#[protection_domain]
fn init() -> Binder {
    let config = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let tables = region!(port_table, REGION_SIZE);
    let portmap = Channel::new(config.portmap_channel as usize);
    let mut ports = PortClient::new(move |message: Message| {
        let registers = message.sent();
        for (index, register) in registers.iter().enumerate() {
            set_mr(index, *register);
        }
        let answer = portmap.pp_call(MessageInfo::new(message.label, registers.len()));
        Message::read(answer.label(), answer.count(), get_mr)
    });
    let before = digest(&tables);
    let mut refused = 0;
    for cycle in 0..CYCLES {
        refused += u32::from(turn(&mut ports, cycle).is_err());
    }
    log::info!("{CYCLES} cycles, {refused} refused");
    compare("after the cycles", before, &tables);

    let [bound, held] = PORTS;
    let tcp = Protocol::Tcp;
    let result = ports.bind(tcp, bound, Families::V6);
    log::info!("bound: {result:?}");
    compare("while a port is bound", before, &tables);
    let result = ports.release(tcp, bound, Families::V6);
    log::info!("released: {result:?}");
    compare("when it is released", before, &tables);

    let result = ports
        .bind(tcp, held, Families::Both)
        .and_then(|()| ports.hold(tcp, held, Families::Both, HOLD_MILLISECONDS))
        .and_then(|()| ports.release(tcp, held, Families::Both));
    log::info!("held: {result:?}");
    compare("while a port is held", before, &tables);
    Binder
}

/// Binds and releases one port: another one, in other families, of the other protocol, each time;
/// every seventh time one that the port map chooses.
fn turn<C: FnMut(Message) -> Message>(
    ports: &mut PortClient<C>,
    cycle: u32,
) -> Result<(), PortError> {
    let families = [Families::V4, Families::V6, Families::Both][cycle as usize % 3];
    let protocol = Protocol::ALL[cycle as usize / 3 % 2];
    // Port 80 is the other application's, port 0 nobody's.
    let port = match cycle as u16 {
        0 | 80 => 1,
        port => port,
    };
    let port = if cycle.is_multiple_of(7) {
        ports.bind_any(protocol, families)?
    } else {
        ports.bind(protocol, port, families)?;
        port
    };
    ports.release(protocol, port, families)
}

fn compare(when: &str, before: u64, tables: &Region) {
    let is = if digest(tables) == before {
        "as they were"
    } else {
        "different"
    };
    log::info!("the tables {when}: {is}");
}

/// FNV-1a over all words of the tables.
fn digest(tables: &Region) -> u64 {
    (0..REGION_SIZE)
        .step_by(8)
        .fold(0xcbf2_9ce4_8422_2325, |sum, at| {
            (sum ^ tables.load64(at, Acquire)).wrapping_mul(0x100_0000_01b3)
        })
}

impl Handler for Binder {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        Ok(())
    }
}
