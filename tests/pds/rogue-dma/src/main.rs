//! Test: makes a virtual function read and write memory it was not given.
//!
//! First it shows that the function works: an ARP request goes out and the answer
//! arrives. Then each attempt does the same with one address changed to memory
//! that the function's IO address space does not have: this program's own secret,
//! a page the function may only read, the kernel. At the end it looks whether any of
//! that memory changed and says so. The host reads the IOMMU's trace besides.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod function;

use core::sync::atomic::Ordering;

use function::{BUFFER, FRAME, Function, Orders};
use segue_device::DmaMemory;
use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, channel, protection_domain, region, var,
};

/// In the kernel's image, which lies from 1 MiB on.
const KERNEL: u64 = 0x0010_0000;
/// How long an answer may take when there must be one.
const PATIENCE_MICROSECONDS: u64 = 3_000_000;
/// How long one is waited for that perhaps never comes.
const SHORT_PATIENCE_MICROSECONDS: u64 = 200_000;
/// 10.0.2.77 asks for 10.0.2.2.
const MY_ADDRESS: [u8; 4] = [10, 0, 2, 77];
const PEER_ADDRESS: [u8; 4] = [10, 0, 2, 2];
const ARP_LENGTH: usize = 42;
/// What the memory holds that must not change: not what a frame could hold by chance.
const PATTERN: u64 = 0x5ec2_e7da_7a5e_c2e7;

struct RogueDma {
    function: Function,
    /// Memory of this program that no IO address space has.
    secret: Region,
    /// Memory that the function may read.
    read_only: Region,
    clock: Clock,
    igb_pf: Channel,
    mac: [u8; 6],
    phase: Phase,
}

/// What the next word of `igb-pf` starts.
#[derive(Clone, Copy)]
enum Phase {
    /// The function is enabled for the first time.
    Attempts,
    /// The function is enabled again after its reset.
    AfterReset,
    Done,
}

#[protection_domain]
fn init() -> RogueDma {
    let rogue = RogueDma {
        function: Function {
            registers: region!(vf_registers),
            memory: region!(dma),
        },
        secret: region!(secret),
        read_only: region!(read_only),
        clock: Clock::new(region!(tsc_frequency, 0x1000)),
        igb_pf: channel!(igb_pf_channel),
        mac: *var!(mac: [u8; 8] = [0; 8])
            .first_chunk()
            .expect("eight bytes hold six"),
        phase: Phase::Attempts,
    };
    for region in [&rogue.secret, &rogue.read_only] {
        for offset in (0..region.length()).step_by(8) {
            region.store64(offset, PATTERN ^ offset as u64, Ordering::Relaxed);
        }
    }
    log::info!("waiting for the virtual function");
    rogue
}

fn is_unchanged(region: &Region) -> bool {
    (0..region.length())
        .step_by(8)
        .all(|offset| region.load64(offset, Ordering::Relaxed) == PATTERN ^ offset as u64)
}

impl RogueDma {
    /// Waits until `condition` holds; false if it does not in time.
    fn wait(&self, microseconds: u64, condition: impl Fn() -> bool) -> bool {
        let end = self.clock.now_microseconds() + microseconds;
        while self.clock.now_microseconds() < end {
            if condition() {
                return true;
            }
            core::hint::spin_loop();
        }
        condition()
    }

    fn write_request(&self) {
        let mut frame = [0u8; ARP_LENGTH];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&self.mac);
        // ARP for IPv4 over Ethernet, a request.
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&self.mac);
        frame[28..32].copy_from_slice(&MY_ADDRESS);
        frame[38..42].copy_from_slice(&PEER_ADDRESS);
        self.function.memory.write(FRAME, &frame);
    }

    /// Shows that the function works when it keeps to its memory.
    fn control(&self) -> bool {
        self.write_request();
        self.function.memory.write(BUFFER, &[0; 64]);
        self.function.obey(&self.function.lawful(ARP_LENGTH));
        let answered = self.wait(PATIENCE_MICROSECONDS, || self.function.received().is_some());
        let mut answer = [0u8; ARP_LENGTH];
        self.function.memory.read(BUFFER, &mut answer);
        // An ARP reply of the peer to this function.
        let sound = answer[..6] == self.mac
            && answer[12..14] == [8, 6]
            && answer[20..22] == [0, 2]
            && answer[28..32] == PEER_ADDRESS;
        self.function.has_sent() && answered && sound
    }

    /// One attempt. The frame asks for an answer in any case, so that there is
    /// something to write.
    fn attempt(&self, name: &str, orders: &Orders) {
        self.write_request();
        self.function.obey(orders);
        // The function works through its queue whether or not it is blocked; then
        // an answer needs time to come.
        self.wait(SHORT_PATIENCE_MICROSECONDS, || {
            self.function.transmit_head() == 1
        });
        self.wait(SHORT_PATIENCE_MICROSECONDS, || {
            self.function.received().is_some()
        });
        log::info!("attempt: {name}");
    }

    fn run(&self) {
        if !self.control() {
            log::error!("the function does not work even within its own memory: nothing is shown");
            return;
        }
        log::info!("within its memory the function sends, and receives the answer");
        let lawful = self.function.lawful(ARP_LENGTH);
        // Convention of the system description: device address = own address.
        let secret = self.secret.device_address();
        let read_only = self.read_only.device_address();

        self.attempt(
            "read the secret",
            &Orders {
                frame: secret,
                length: 64,
                ..lawful
            },
        );
        self.attempt(
            "read the kernel",
            &Orders {
                frame: KERNEL,
                length: 64,
                ..lawful
            },
        );
        self.attempt(
            "write the secret",
            &Orders {
                buffer: secret + 0x1000,
                ..lawful
            },
        );
        self.attempt(
            "write what it may only read",
            &Orders {
                buffer: read_only,
                ..lawful
            },
        );
        self.attempt(
            "write the kernel",
            &Orders {
                buffer: KERNEL + 0x1000,
                ..lawful
            },
        );
        self.attempt(
            "report to the secret",
            &Orders {
                head_write_back: secret + 0x2000,
                ..lawful
            },
        );
        self.attempt(
            "take orders from the secret",
            &Orders {
                transmit_ring: secret + 0x3000,
                ..lawful
            },
        );

        match (is_unchanged(&self.secret), is_unchanged(&self.read_only)) {
            (true, true) => log::info!("all memory outside the windows is unchanged"),
            (secret, read_only) => log::error!(
                "memory was changed: the secret is {}, the read-only page is {}",
                if secret { "unchanged" } else { "changed" },
                if read_only { "unchanged" } else { "changed" }
            ),
        }
        // A ring that cannot be read leaves the function in the middle of a packet.
        self.function.reset();
    }

    fn run_after_reset(&self) {
        // The reset does not end a packet in the emulated function, the next frame does.
        if self.control() || self.control() {
            log::info!("after its reset the function works again");
        } else {
            log::error!("after its reset the function does not work");
        }
    }
}

impl Handler for RogueDma {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if channels.contains(self.igb_pf) {
            match self.phase {
                Phase::Attempts => {
                    self.phase = Phase::AfterReset;
                    self.run();
                }
                Phase::AfterReset => {
                    self.phase = Phase::Done;
                    self.run_after_reset();
                }
                Phase::Done => {}
            }
        }
        Ok(())
    }
}
