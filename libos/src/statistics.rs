//! What the stack counts.

use crate::vif::Counters;

/// Counters of a stack since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames and bytes on the Vif.
    pub vif: Counters,
    /// Frames dropped for their lengths or fields.
    pub malformed: u64,
    /// Packets dropped for a checksum.
    pub bad_checksum: u64,
    /// TCP segments and UDP datagrams whose checksum was verified in software.
    pub software_checksums: u64,
    /// IPv6 packets dropped for their extension headers; fragments among them.
    pub extension_headers: u64,
    /// ICMPv6 messages that say nothing of interest, and reports of packets too big
    /// that no connection has sent.
    pub ignored_messages: u64,
    /// Connections whose segments were made smaller for a packet too big.
    pub narrowed: u64,
    /// ARP packets and neighbour advertisements that claim an address of ours for another
    /// hardware address.
    pub duplicate_address: u64,
    /// TCP segments and IPv6 packets to another address.
    pub not_for_us: u64,
    /// Fragments of TCP segments, dropped.
    pub tcp_fragments: u64,
    /// Datagrams put together from IPv4 fragments.
    pub reassembled: u64,
    /// Fragments dropped: contradictory, too long or of no possible datagram.
    pub fragments_dropped: u64,
    /// Segments to no connection and no listener, answered with a RST.
    pub refused_segments: u64,
    /// Handshakes begun.
    pub handshakes: u64,
    /// Handshakes given up: timed out, reset, or pushed out by others.
    pub handshakes_lost: u64,
    /// Connections that the application wanted to open.
    pub connects: u64,
    /// Those of them that became open.
    pub connected: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections ended, in whatever way.
    pub closed: u64,
    /// Acknowledgements that a later one made needless.
    pub merged: u64,
    /// Segments with data sent more than once.
    pub retransmissions: u64,
    /// Segments repeated because acknowledgements stopped coming.
    pub probes: u64,
    /// Peers asked how far they have got, since the network server had started anew.
    pub reunions: u64,
    /// TIME_WAIT entries recycled by a new SYN (RFC 6191).
    pub time_wait_recycled: u64,
    /// Idle connections that gave up their buffers.
    pub parked: u64,
    /// Connections that got buffers again.
    pub resumed: u64,
    /// Connections reset because engines were short and their peers took nothing.
    pub stuck: u64,
    /// Segments that had to wait for buffers.
    pub delayed: u64,
    /// Segments dropped because too many waited for buffers.
    pub no_buffers: u64,
    /// Handshakes not completed because there were too many connections.
    pub no_room: u64,
}
