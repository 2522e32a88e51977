//! Test: an application in direct mode that does as it pleases with what it is granted.
//!
//! It takes its orders off the board by hand, and follows them as long as its `behaviour` wants:
//!
//! - 1, inspector: says what the registers of its function read, then writes junk into all of them
//! - 2, stubborn: rings the doorbell of its transmit queue, whatever it is ordered
//! - 3, thief: makes its function read and write memory that is not its own, whatever it is ordered
//! - 4, hoarder: tries to keep what it was granted, in every way that there is
//! - 5, restless: resets its function without end, whatever it is ordered
//!
//! Its frame channel it leaves alone.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod function;
mod hoarder;
mod inspector;
mod party;
mod restless;
mod stubborn;
mod thief;

use segue_director_core::board::{Refused, StageOperation};
use segue_director_core::config::DirectConfig;
use segue_frame_channel::config::ClientConfig;
use sel4_microkit::{ChannelSet, Clock, Handler, Infallible, protection_domain, region, var};

use hoarder::Hoarder;
use party::Party;

/// What it does in direct mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Inspector,
    Stubborn,
    Thief,
    Hoarder,
    Restless,
}

struct Grantee {
    party: Party,
    behaviour: Behaviour,
    /// Grants so far.
    grants: u32,
}

#[protection_domain]
fn init() -> Grantee {
    let channel = var!(frame_channel: ClientConfig = ClientConfig::EMPTY);
    let direct = var!(direct_mode: DirectConfig = DirectConfig::EMPTY);
    let behaviour = match *var!(behaviour: u64 = 0) {
        1 => Behaviour::Inspector,
        2 => Behaviour::Stubborn,
        3 => Behaviour::Thief,
        4 => Behaviour::Hoarder,
        5 => Behaviour::Restless,
        other => panic!("there is no behaviour {other}"),
    };
    let clock = Clock::new(region!(tsc_frequency, 0x1000));
    let party = Party::new(direct, channel, clock);
    log::info!("waiting for a virtual function");
    Grantee {
        party,
        behaviour,
        grants: 0,
    }
}

impl Grantee {
    fn obey(&mut self, operation: StageOperation) {
        if let StageOperation::Prepare { function } = operation
            && self.behaviour != Behaviour::Hoarder
        {
            return self.prepare(function);
        }
        if (operation, self.behaviour) == (StageOperation::Attach, Behaviour::Stubborn) {
            self.party.function().start();
        }
        // What takes long comes after the answer: it is not the director's patience that is
        // tried here.
        self.party.agree();
        let party = &self.party;
        match (operation, self.behaviour) {
            (StageOperation::Attach | StageOperation::Direct, Behaviour::Inspector) => {
                inspector::spoil(party);
            }
            (StageOperation::Direct, Behaviour::Stubborn) => stubborn::go_on(party),
            (StageOperation::Direct, Behaviour::Thief) => thief::go_on(party),
            (StageOperation::Direct, Behaviour::Restless) => restless::go_on(party),
            (StageOperation::Direct, Behaviour::Hoarder) => Hoarder { party }.hoard(),
            (StageOperation::Server, Behaviour::Hoarder) => {
                Hoarder { party }.look_what_is_left();
            }
            _ => {}
        }
    }

    fn prepare(&mut self, function: u8) {
        self.grants += 1;
        if let Err(error) = self.party.map() {
            log::error!("{error}");
            return self.party.refuse(Refused::Kernel);
        }
        if self.behaviour == Behaviour::Inspector {
            inspector::report(&self.party, function, self.grants);
            inspector::spoil(&self.party);
        } else {
            self.party.function().reset();
        }
        self.party.agree();
    }
}

impl Handler for Grantee {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        while let Some(operation) = self.party.next() {
            self.obey(operation);
        }
        Ok(())
    }
}
