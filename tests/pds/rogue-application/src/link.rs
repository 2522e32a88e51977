//! The rogue's end of its frame channel, past the honest one's back.

use core::sync::atomic::Ordering;

use segue_forgeries::Frame;
use segue_frame_channel::config::ClientConfig;
use segue_frame_channel::{ClientChannel, FrameOffload};
use segue_shared_memory::Region;
use sel4_microkit::{Channel, private_region_at, region_at};

/// The first transmit descriptor in the region that the application writes.
const DESCRIPTORS: usize = 0x100;
const DESCRIPTOR_SIZE: usize = 16;
/// How many frames it has handed in, as the server is told.
const PRODUCER: usize = 0x40;
/// How often room is looked for before that is given up.
const PATIENCE: u32 = 1 << 28;

/// The channel, and what only the protocol's own code should write.
pub struct Link {
    pub channel: ClientChannel,
    region: Region,
    pool: Region,
    server: Channel,
    entries: u32,
    /// Frames handed in.
    handed: u32,
}

impl Link {
    pub fn new(config: &ClientConfig) -> Self {
        let region = region_at!(config.client_region, config.client_region_size);
        let channel = ClientChannel::new(
            region,
            region_at!(config.server_region, config.server_region_size),
            private_region_at!(config.pool, config.pool_size),
            config.transmit_entries,
            config.receive_entries,
        )
        .expect("the image builder has described the channel");
        Self {
            channel,
            region,
            pool: region_at!(config.pool, config.pool_size),
            server: Channel::new(config.channel as usize),
            entries: config.transmit_entries,
            handed: 0,
        }
    }

    pub fn poll(&mut self) {
        if let Err(violation) = self.channel.poll() {
            log::error!("the server broke the protocol: {violation}");
        }
    }

    /// Tells the server what was handed in, if it has to be told.
    pub fn publish(&mut self) {
        if self.channel.publish() {
            self.server.notify();
        }
    }

    /// Notifies the server, whether it has anything to do or not.
    pub fn notify(&self) {
        self.server.notify();
    }

    /// Hands a frame in if there is room.
    pub fn offer(&mut self, frame: &Frame) -> bool {
        self.channel.has_room(frame.bytes().len()) && self.hand_in(frame).is_some()
    }

    /// Hands a frame in with its descriptor as it is, as soon as there is room. The server does
    /// not learn of it yet. Returns where it lies in the pool.
    pub fn hand_in(&mut self, frame: &Frame) -> Option<usize> {
        let offset = self.hand_in_bytes(frame.bytes(), frame.offload)?;
        let at = self.descriptor(self.handed.wrapping_sub(1)) + 8;
        let word = self.region.load64(at, Ordering::Relaxed) & !0xffff;
        let word = word | frame.header_length as u64;
        self.region.store64(at, word, Ordering::Relaxed);
        Some(offset)
    }

    /// Hands a frame in like an honest application.
    pub fn hand_in_bytes(&mut self, bytes: &[u8], offload: FrameOffload) -> Option<usize> {
        for _ in 0..PATIENCE {
            if let Some(mut room) = self.channel.reserve(bytes.len()) {
                room.bytes().copy_from_slice(bytes);
                room.submit(bytes.len(), offload);
                let at = self.descriptor(self.handed);
                self.handed = self.handed.wrapping_add(1);
                return Some(self.region.load64(at, Ordering::Relaxed) as u32 as usize);
            }
            self.publish();
            self.poll();
        }
        None
    }

    /// Replaces what lies in the pool, whoever may be reading it.
    pub fn rewrite(&self, offset: usize, bytes: &[u8]) {
        self.pool.write(offset, bytes);
    }

    /// Writes nonsense into the channel.
    pub fn break_protocol(&mut self) {
        self.region
            .store32(PRODUCER, u32::MAX / 2, Ordering::Release);
        self.server.notify();
        self.poll();
    }

    fn descriptor(&self, index: u32) -> usize {
        DESCRIPTORS + (index & (self.entries - 1)) as usize * DESCRIPTOR_SIZE
    }
}
