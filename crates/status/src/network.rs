//! Counters of the network server, kept current by it alone.
//!
//! A header of [`HEADER_SIZE`] bytes, then a record of [`RECORD_SIZE`] bytes
//! for each application. Names are written before the magic word and never
//! change; every other field is one atomic word. Counters wrap at 2^64.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use segue_shared_memory::Region;

use crate::name;

/// First word of the region, once names and count are written.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SEGNET01");
/// Bytes before the first record.
pub const HEADER_SIZE: usize = 512;
/// Bytes of a record.
pub const RECORD_SIZE: usize = 384;
/// Most applications there is room for.
pub const MAXIMUM_APPLICATIONS: usize = 64;
/// Bytes of the region, at least.
pub const REGION_SIZE: usize = HEADER_SIZE + MAXIMUM_APPLICATIONS * RECORD_SIZE;

const HEADER_MAGIC: usize = 0;
const HEADER_COUNT: usize = 8;
const HEADER_COUNTERS: usize = 64;
const HEADER_DROPS: usize = 256;

const NAME: usize = 0;
const STATE: usize = 64;
const COUNTERS: usize = 72;
const DROPS: usize = 192;

/// Why a frame from an application was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressDrop {
    /// Its headers contradict themselves or its length.
    Malformed,
    /// The headers it declares do not reach through the transport header.
    HeaderTooShort,
    /// It is longer than the network allows and not to be segmented.
    TooLong,
    /// What it leaves to the network card does not fit its protocol.
    Offload,
    /// Its source MAC address is not the application's.
    SourceMac,
    /// Its source IP address is not the application's.
    SourceAddress,
    /// Its source port is not the application's.
    SourcePort,
    /// It is an ARP packet that does not speak for the application's address.
    Arp,
    /// It is an IPv6 fragment; or an IPv4 one, and the application shares its address.
    Fragment,
    /// It has IPv4 options.
    Options,
    /// It is an ICMP message that the application may not send.
    Icmp,
    /// Its IP protocol is neither TCP nor UDP nor ICMP.
    Protocol,
    /// It has an IPv6 extension header.
    ExtensionHeader,
    /// It is a message of IPv6's neighbour discovery that does not speak for the
    /// application's addresses alone.
    NeighborDiscovery,
    /// It is neither ARP nor IP.
    EtherType,
    /// The network card refused it.
    Device,
    /// The application has no address yet, or no more.
    NoAddress,
}

/// Why a received frame was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressDrop {
    /// Its headers contradict themselves or its length.
    Malformed,
    /// Its destination address is nobody's.
    NotOurAddress,
    /// It asks by ARP for somebody else's address.
    ArpNotOurs,
    /// The port it is for is free, and several applications share the address.
    NoOwner,
    /// It is a fragment for an address that several applications share, and
    /// there is no telling whose, or it is an IPv6 one.
    Fragment,
    /// It is for a multicast group.
    Multicast,
    /// It is an ICMP message that concerns nobody.
    Icmp,
    /// Its IP protocol is neither TCP nor UDP nor ICMP.
    Protocol,
    /// It has an IPv6 extension header, and several applications share the address.
    ExtensionHeader,
    /// It is a message of IPv6's neighbour discovery about nobody here, or one that
    /// nobody here heeds.
    NeighborDiscovery,
    /// It is neither ARP nor IP.
    EtherType,
    /// It does not fit a receive slot.
    TooLong,
    /// Its owner's receive ring is full.
    RingFull,
    /// Its owner's channel is down.
    ChannelDown,
    /// It came from the network with an address of ours as its source, or
    /// advertises one.
    SourceAddress,
    /// It is the first fragment of a datagram without the whole of the
    /// transport header, or a later one that reaches back into it.
    ShortFragment,
    /// The server would have to answer it, but has given too many answers.
    NotAnswered,
    /// It is a broadcast or multicast for an application in direct mode, which gets it
    /// from its own function of the network card.
    DirectMode,
}

macro_rules! texts {
    ($type:ty, [$($cause:ident => $text:literal),* $(,)?]) => {
        impl $type {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$cause),*];

            /// A few words for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$cause => $text),* }
            }
        }
    };
}

texts!(EgressDrop, [
    Malformed => "malformed",
    HeaderTooShort => "declared header too short",
    TooLong => "too long",
    Offload => "impossible offload",
    SourceMac => "forged source MAC address",
    SourceAddress => "forged source IP address",
    SourcePort => "source port not owned",
    Arp => "ARP for another's address",
    Fragment => "fragment",
    Options => "IPv4 options",
    Icmp => "ICMP message not allowed",
    Protocol => "IP protocol not allowed",
    ExtensionHeader => "IPv6 extension header",
    NeighborDiscovery => "neighbour discovery not allowed",
    EtherType => "neither ARP nor IP",
    Device => "refused by the network card",
    NoAddress => "no address yet",
]);

texts!(IngressDrop, [
    Malformed => "malformed",
    NotOurAddress => "address of nobody here",
    ArpNotOurs => "ARP for another's address",
    NoOwner => "port without owner",
    Fragment => "fragment",
    Multicast => "multicast",
    Icmp => "ICMP message for nobody",
    Protocol => "IP protocol not served",
    ExtensionHeader => "IPv6 extension header",
    NeighborDiscovery => "neighbour discovery for nobody",
    EtherType => "neither ARP nor IP",
    TooLong => "too long",
    RingFull => "receive ring full",
    ChannelDown => "channel down",
    SourceAddress => "our own address as source",
    ShortFragment => "fragment within the transport header",
    NotAnswered => "not answered: too many",
    DirectMode => "for an application in direct mode",
]);

// The counters must fit where they are put.
const _: () = assert!(DROPS + EgressDrop::ALL.len() * 8 <= RECORD_SIZE);
const _: () = assert!(HEADER_DROPS + IngressDrop::ALL.len() * 8 <= HEADER_SIZE);
const _: () = assert!(COUNTERS + Counter::ALL.len() * 8 <= DROPS);
const _: () = assert!(HEADER_COUNTERS + ServerCounter::ALL.len() * 8 <= HEADER_DROPS);

/// What is counted for each application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Frames from it that were handed to the network card.
    TransmittedFrames,
    /// Bytes of these.
    TransmittedBytes,
    /// Bytes of these that the server copied.
    CopiedBytes,
    /// Frames that were delivered to it.
    ReceivedFrames,
    /// Bytes of these.
    ReceivedBytes,
    /// Notifications sent to it.
    NotificationsSent,
    /// Notifications received from it.
    NotificationsReceived,
    /// Frames for it that were dropped because its receive ring was full or
    /// its channel was down.
    ReceiveDropped,
    /// Epochs it was joined in.
    Epochs,
    /// Breaches of the channel's protocol.
    Violations,
    /// Frames from it that were delivered to applications on this machine; a
    /// segment counts as one.
    InsideFrames,
    /// Bytes of these.
    InsideBytes,
}

impl Counter {
    const ALL: [Self; 12] = [
        Self::TransmittedFrames,
        Self::TransmittedBytes,
        Self::CopiedBytes,
        Self::ReceivedFrames,
        Self::ReceivedBytes,
        Self::NotificationsSent,
        Self::NotificationsReceived,
        Self::ReceiveDropped,
        Self::Epochs,
        Self::Violations,
        Self::InsideFrames,
        Self::InsideBytes,
    ];
}

/// What is counted for the server as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCounter {
    /// Frames the network card has received.
    ReceivedFrames,
    /// Bytes of these.
    ReceivedBytes,
    /// Frames handed to the network card.
    TransmittedFrames,
    /// Bytes of these.
    TransmittedBytes,
    /// Interrupts of the network card.
    Interrupts,
    /// Times the server was woken, for whatever reason.
    Wakeups,
    /// Frames the network card's driver has dropped: bad or oversized.
    DeviceDropped,
    /// Times the network card stopped answering and was started anew.
    DeviceRestarts,
    /// Times received frames were left with the network card because the only
    /// application's receive ring was full.
    ReceivePauses,
    /// Frames that the server answered itself.
    Answered,
    /// Interrupts of the network card that were lost: its frames were found without one.
    LostInterrupts,
}

impl ServerCounter {
    const ALL: [Self; 11] = [
        Self::ReceivedFrames,
        Self::ReceivedBytes,
        Self::TransmittedFrames,
        Self::TransmittedBytes,
        Self::Interrupts,
        Self::Wakeups,
        Self::DeviceDropped,
        Self::DeviceRestarts,
        Self::ReceivePauses,
        Self::Answered,
        Self::LostInterrupts,
    ];
}

/// What a channel is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// The application has not joined it (yet, or again).
    #[default]
    Down,
    /// Frames flow.
    Up,
    /// The application broke the protocol.
    CutOff,
}

impl ChannelState {
    /// One or two words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::CutOff => "cut off",
        }
    }
}

/// The region.
#[derive(Clone, Copy, Debug)]
pub struct NetworkStatus {
    region: Region,
}

/// What the region says of one application; also the means to write it.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    record: Region,
}

impl NetworkStatus {
    /// Takes a region of at least [`REGION_SIZE`] bytes; `None` if it is
    /// smaller.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= REGION_SIZE).then_some(Self { region })
    }

    /// Writes names and count; all counters become 0, whatever was there. For the server,
    /// each time it starts: readers see counters go back, and how often it has started in
    /// the status of the system.
    pub fn initialise<'a>(&self, names: impl IntoIterator<Item = &'a [u8; 64]>) {
        self.region.store64(HEADER_MAGIC, 0, Release);
        for offset in (8..REGION_SIZE).step_by(8) {
            self.region.store64(offset, 0, Relaxed);
        }
        let mut count = 0;
        for name in names.into_iter().take(MAXIMUM_APPLICATIONS) {
            self.region
                .write(HEADER_SIZE + count * RECORD_SIZE + NAME, name);
            count += 1;
        }
        self.region.store64(HEADER_COUNT, count as u64, Relaxed);
        self.region.store64(HEADER_MAGIC, MAGIC, Release);
    }

    /// How many applications there are; 0 until the server has written them.
    pub fn count(&self) -> usize {
        if self.region.load64(HEADER_MAGIC, Acquire) != MAGIC {
            return 0;
        }
        (self.region.load64(HEADER_COUNT, Relaxed) as usize).min(MAXIMUM_APPLICATIONS)
    }

    /// The application of index `index`.
    pub fn application(&self, index: usize) -> Option<Application> {
        if index >= self.count() {
            return None;
        }
        let record = self
            .region
            .part(HEADER_SIZE + index * RECORD_SIZE, RECORD_SIZE)?;
        Some(Application { record })
    }

    /// A counter of the server.
    pub fn counter(&self, counter: ServerCounter) -> u64 {
        self.region
            .load64(HEADER_COUNTERS + counter as usize * 8, Relaxed)
    }

    /// Adds to a counter of the server. For the server.
    #[inline]
    pub fn add(&self, counter: ServerCounter, amount: u64) {
        add(&self.region, HEADER_COUNTERS + counter as usize * 8, amount);
    }

    /// Sets a counter of the server. For the server.
    pub fn set(&self, counter: ServerCounter, value: u64) {
        self.region
            .store64(HEADER_COUNTERS + counter as usize * 8, value, Relaxed);
    }

    /// How many received frames were dropped for this cause.
    pub fn dropped(&self, cause: IngressDrop) -> u64 {
        self.region
            .load64(HEADER_DROPS + cause as usize * 8, Relaxed)
    }

    /// Counts a dropped received frame. For the server.
    pub fn drop_frame(&self, cause: IngressDrop) {
        add(&self.region, HEADER_DROPS + cause as usize * 8, 1);
    }
}

impl Application {
    /// Its name, NUL-padded; [`crate::network::name_text`] makes it a string.
    pub fn name(&self) -> [u8; 64] {
        let mut name = [0; 64];
        self.record.read(NAME, &mut name);
        name
    }

    /// What its channel is doing.
    pub fn state(&self) -> ChannelState {
        match self.record.load32(STATE, Relaxed) {
            1 => ChannelState::Up,
            2 => ChannelState::CutOff,
            _ => ChannelState::Down,
        }
    }

    /// Says what its channel is doing. For the server.
    pub fn set_state(&self, state: ChannelState) {
        let word = match state {
            ChannelState::Down => 0,
            ChannelState::Up => 1,
            ChannelState::CutOff => 2,
        };
        self.record.store32(STATE, word, Relaxed);
    }

    /// A counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.record.load64(COUNTERS + counter as usize * 8, Relaxed)
    }

    /// Adds to a counter. For the server.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        add(&self.record, COUNTERS + counter as usize * 8, amount);
    }

    /// Sets a counter. For the server.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.record
            .store64(COUNTERS + counter as usize * 8, value, Relaxed);
    }

    /// How many frames from it were dropped for this cause.
    pub fn dropped(&self, cause: EgressDrop) -> u64 {
        self.record.load64(DROPS + cause as usize * 8, Relaxed)
    }

    /// How many frames from it were dropped for any cause.
    pub fn dropped_in_all(&self) -> u64 {
        EgressDrop::ALL
            .iter()
            .map(|cause| self.dropped(*cause))
            .fold(0, u64::wrapping_add)
    }

    /// Counts a dropped frame from it. For the server.
    pub fn drop_frame(&self, cause: EgressDrop) {
        add(&self.record, DROPS + cause as usize * 8, 1);
    }
}

/// The text of a name, up to its padding.
pub fn name_text(bytes: &[u8; 64]) -> &str {
    name(bytes)
}

/// One writer, so no read-modify-write instruction is needed.
#[inline]
fn add(region: &Region, offset: usize, amount: u64) {
    region.store64(
        offset,
        region.load64(offset, Relaxed).wrapping_add(amount),
        Relaxed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_shared_memory::testing::leaked_region;

    #[test]
    fn what_is_counted_can_be_read() {
        let region = leaked_region(0x7000);
        let status = NetworkStatus::new(region).unwrap();
        assert_eq!(status.count(), 0);
        let mut names = [[0; 64]; 2];
        names[0][..4].copy_from_slice(b"http");
        names[1][..2].copy_from_slice(b"kv");
        status.initialise(&names);
        assert_eq!(status.count(), 2);
        let second = status.application(1).unwrap();
        assert_eq!(name_text(&second.name()), "kv");
        for (value, cause) in (1..).zip(EgressDrop::ALL) {
            for _ in 0..value {
                second.drop_frame(*cause);
            }
        }
        for (value, counter) in (100..).zip(Counter::ALL) {
            second.add(counter, value);
        }
        for (value, counter) in (200..).zip(ServerCounter::ALL) {
            status.add(counter, value);
        }
        for cause in IngressDrop::ALL {
            status.drop_frame(*cause);
        }
        second.set_state(ChannelState::Up);
        for (value, cause) in (1..).zip(EgressDrop::ALL) {
            assert_eq!(second.dropped(*cause), value);
        }
        for (value, counter) in (100..).zip(Counter::ALL) {
            assert_eq!(second.counter(counter), value);
        }
        for (value, counter) in (200..).zip(ServerCounter::ALL) {
            assert_eq!(status.counter(counter), value);
        }
        assert!(
            IngressDrop::ALL
                .iter()
                .all(|cause| status.dropped(*cause) == 1)
        );
        assert_eq!(second.state(), ChannelState::Up);
        let causes = EgressDrop::ALL.len() as u64;
        assert_eq!(second.dropped_in_all(), causes * (causes + 1) / 2);
        let first = status.application(0).unwrap();
        assert_eq!(
            (first.dropped_in_all(), first.state()),
            (0, ChannelState::Down)
        );
        assert!(status.application(2).is_none());
    }

    #[test]
    fn a_small_region_is_refused() {
        assert!(NetworkStatus::new(leaked_region(REGION_SIZE - 8)).is_none());
    }
}
