//! The port map, asked anything by anybody, against its model (`segue_portmap_core::model`).
//!
//! Steps begin with a byte that says what happens: a message, likely or not, on any channel; time
//! passes; an owner dies or comes back; the port map is started anew.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use segue_portmap_core::model::{Model, sample};
use segue_portmap_core::protocol::Message;
use segue_portmap_core::{HOLDS_SIZE, Life, REGION_SIZE, Service};
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;

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
    let new = || Service::new(tables, holds, owners, pools).expect("the regions are large enough");
    let mut service = new();
    let mut model = Model::new(owners, pools);
    let mut lives = [Life::default(); OWNERS];
    let mut now = 1_000_000;
    let mut sequence = 0;
    let mut input = Input(data);
    while !input.0.is_empty() {
        match input.byte() {
            // A message from an owner with a sequence number of its own, or the last one again.
            kind @ 0..160 => {
                let channel = 60 - u32::from(kind) % OWNERS as u32;
                sequence += u64::from(kind < 150);
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
                ask(
                    &mut service,
                    &mut model,
                    channel,
                    &Message { label, registers },
                    now,
                );
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
            _ => {
                service = new();
                model.restarted();
                for (index, life) in lives.into_iter().enumerate() {
                    note(&mut service, &mut model, index, life, now);
                }
            }
        }
    }
    model.compare(tables, &mut service, now);
});

fn ask(service: &mut Service, model: &mut Model, channel: u32, message: &Message, now: u64) {
    let reply = service.handle(channel, message, now);
    model.answered(channel, message, &reply, now);
}

fn note(service: &mut Service, model: &mut Model, index: usize, life: Life, now: u64) {
    let returned = service.note(index, life, now);
    assert_eq!(returned, model.noted(index, life, now));
}
