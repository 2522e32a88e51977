//! The port map, asked anything by anybody, against its model (`segue_portmap_core::model`).
//!
//! Steps begin with a byte that says what happens: a message, likely or not, on any channel; time
//! passes; an owner dies or comes back; the port map is started anew, or dies after so many stores
//! while it answers, and again while its successor takes over. In the end the regions may be
//! damaged: then there is no model any more, but whoever takes over must put them right.
#![no_main]

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use libfuzzer_sys::fuzz_target;
use segue_portmap_core::model::{Model, sample};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{HOLDS_SIZE, Life, REGION_SIZE, Repairs, Service, TABLE_SIZE};
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_region, with_death_after};

const OWNERS: usize = 9;

/// The same memory in every run, zeroed.
fn regions() -> [Region; 2] {
    static REGIONS: OnceLock<[Region; 2]> = OnceLock::new();
    let regions = *REGIONS.get_or_init(|| [REGION_SIZE, HOLDS_SIZE].map(leaked_region));
    for region in regions {
        region.write(0, &vec![0; region.length()]);
    }
    regions
}

/// Takes bytes; zeroes after the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn short(&mut self) -> u64 {
        u64::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }
}

fuzz_target!(|data: &[u8]| {
    let [tables, holds] = regions();
    let (owners, pools) = sample();
    let new = |now| {
        Service::new(tables, holds, owners, pools, now).expect("the regions are large enough")
    };
    let mut now = 1_000_000;
    let mut service = new(now);
    let mut model = Model::new(owners, pools);
    let mut lives = [Life::default(); OWNERS];
    let mut sequence = 0;
    let mut input = Input(data);
    while !input.0.is_empty() {
        match input.byte() {
            // A message from an owner with a sequence number of its own, or the last one again.
            kind @ 0..120 => {
                sequence += u64::from(kind < 110);
                let (channel, message) = likely(kind, sequence, &mut input);
                ask(&mut service, &mut model, channel, &message, now);
            }
            // The port map dies meanwhile, its successor perhaps as well, and the owner repeats it.
            kind @ 120..160 => {
                sequence += 1;
                let (channel, message) = likely(kind, sequence, &mut input);
                let [first, second] = [0; 2].map(|_: u64| u64::from(input.byte() % 64));
                with_death_after(first, || service.handle(channel, &message, now));
                with_death_after(second, || {
                    let mut service = new(now);
                    for (index, life) in lives.into_iter().enumerate() {
                        service.note(index, life, now);
                    }
                    service.handle(channel, &message, now)
                });
                service = new(now);
                assert_eq!(service.repairs(), Repairs::default());
                model.restarted();
                for (index, life) in lives.into_iter().enumerate() {
                    service.note(index, life, now);
                    model.noted(index, life, now);
                }
                ask(&mut service, &mut model, channel, &message, now);
            }
            160..190 => {
                let channel = u32::from(input.byte());
                let label = input.word();
                let registers = std::array::from_fn(|_| input.word());
                ask(
                    &mut service,
                    &mut model,
                    channel,
                    &Message { label, registers },
                    now,
                );
            }
            190..215 => now += input.short() * 4000,
            215..225 => {
                if let Some(next) = service.next_deadline() {
                    now = now.max(next);
                    service.expire(now);
                    assert!(service.next_deadline().is_none_or(|next| next > now));
                }
            }
            225..245 => {
                let what = input.byte();
                let index = usize::from(what) % OWNERS;
                lives[index].is_gone ^= what & 0x40 != 0;
                lives[index].restarts += u32::from(what & 0x80 != 0);
                note(&mut service, &mut model, index, lives[index], now);
            }
            245..253 => {
                service = new(now);
                assert_eq!(service.repairs(), Repairs::default());
                model.restarted();
                for (index, life) in lives.into_iter().enumerate() {
                    note(&mut service, &mut model, index, life, now);
                }
            }
            _ => {
                model.compare(tables, &mut service, now);
                damaged([tables, holds], now, &mut input);
                return;
            }
        }
    }
    model.compare(tables, &mut service, now);
});

/// A message that is likely to mean something, of one of the owners.
fn likely(kind: u8, sequence: u64, input: &mut Input) -> (u32, Message) {
    let channel = 60 - u32::from(kind) % OWNERS as u32;
    let label = u64::from(input.byte() % 9);
    let mut registers = [0; 8];
    registers[0] = sequence;
    match label {
        7 => {
            // An address of the sample's network, or any.
            let any = input.byte();
            registers[1] = 0x0a00_0200 | u64::from(any);
            if any > 250 {
                registers[1] = input.word();
            }
            registers[2] = u64::from(input.byte() % 34);
            registers[3] = u64::from(input.byte() % 2) * 0x0a00_0202;
            registers[4] = input.short();
        }
        _ => {
            registers[1] = [6, 17, 6, 1][usize::from(input.byte() % 4)];
            // Few ports, so that they meet, or any.
            let port = input.short();
            registers[2] = if port % 2 == 0 { port % 32 / 2 } else { port };
            registers[3] = u64::from(input.byte() % 5);
            registers[4] = input.short() * 4;
        }
    }
    (channel, Message { label, registers })
}

/// Damages what a port map has left, and looks whether its successor puts all of it right.
fn damaged([tables, holds]: [Region; 2], now: u64, input: &mut Input) {
    for _ in 0..1 + input.byte() % 16 {
        // The first ports, addresses, holds, records, or anywhere.
        let [place, offset] = [input.byte(), input.byte()].map(usize::from);
        let (region, at) = match place % 5 {
            0 => (tables, offset),
            1 => (tables, TABLE_SIZE + offset * 8),
            2 => (holds, 0x1000 + offset * 4),
            3 => (holds, offset * 8),
            _ => (holds, input.short() as usize * 8),
        };
        let at = (at & !7).min(region.length() - 8);
        let word = match place / 64 {
            0 => input.word(),
            1 => u64::MAX,
            2 => region.load64(at, Relaxed) ^ 1 << (input.byte() % 64),
            _ => input.short(),
        };
        region.store64(at, word, Relaxed);
    }
    let (owners, pools) = sample();
    let new = || Service::new(tables, holds, owners, pools, now).expect("the regions are large");
    let deaths = input.short();
    with_death_after(deaths, new);
    drop(new());
    // What was put right is right.
    let mut service = new();
    assert_eq!(service.repairs(), Repairs::default());
    let mut table = vec![0; TABLE_SIZE];
    tables.read(0, &mut table);
    // The first eight of the sample's owners have ports in the table.
    let most = table
        .chunks_exact(2)
        .map(|owner| u16::from_le_bytes([owner[0], owner[1]]))
        .max();
    assert!(most.is_none_or(|owner| owner <= 8));
    for one in 1..=OWNERS as u16 {
        let addresses = |owner| service.addresses().addresses(owner);
        let pooled = |owner: &u16| (4..7).contains(owner);
        let has_another = (1..one)
            .filter(pooled)
            .any(|other| addresses(other) == addresses(one));
        assert!(!pooled(&one) || addresses(one).is_none() || !has_another);
    }
    // It serves, and when everybody is gone and time has passed, nothing is left.
    while !input.0.is_empty() {
        let kind = input.byte();
        let (channel, message) = likely(kind, u64::from(input.byte()), input);
        service.handle(channel, &message, now);
    }
    let gone = Life {
        is_gone: true,
        restarts: 0,
    };
    for index in 0..OWNERS {
        service.note(index, gone, now);
    }
    service.expire(now + 122_000_000);
    tables.read(0, &mut table);
    assert!(table.iter().all(|byte| *byte == 0));
    assert!((4..7).all(|owner| service.addresses().addresses(owner).is_none()));
}

fn ask(service: &mut Service, model: &mut Model, channel: u32, message: &Message, now: u64) {
    let reply = service.handle(channel, message, now);
    model.answered(channel, message, &reply, now);
}

fn note(service: &mut Service, model: &mut Model, index: usize, life: Life, now: u64) {
    let returned = service.note(index, life, now);
    assert_eq!(returned, model.noted(index, life, now));
}
