//! What the NIC is asked to fill in, and the sums it wants to find.
//!
//! The 82576 adds a packet's payload to what it finds in the transport checksum
//! field, so software puts the sum over the pseudo header there; without the
//! length when the packet is to be segmented, since each segment has its own
//! (datasheet, sections 7.2.4 and 7.2.5).

/// Bytes of an Ethernet header without VLAN tag.
pub const ETHERNET_HEADER_LENGTH: usize = 14;

/// The protocol of the network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternetProtocol {
    /// IPv4: the NIC also fills in the header checksum.
    V4,
    /// IPv6.
    V6,
}

/// The protocol of the transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the NIC does to a frame before it leaves. The frame has no VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitOffload {
    /// Protocol behind the Ethernet header.
    pub protocol: InternetProtocol,
    /// Bytes of the IP header, with options or extension headers.
    pub ip_header_length: u16,
    /// Protocol whose checksum is filled in; `None`: only the IPv4 header's.
    pub transport: Option<Transport>,
    /// Bytes of the TCP or UDP header; 0 without a transport protocol.
    pub transport_header_length: u8,
    /// Most TCP payload bytes of one segment; 0: the frame is sent whole.
    pub segment_size: u16,
}

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_LENGTH: usize = 20;
const IPV6_HEADER_LENGTH: usize = 40;
/// The NIC's field for the IP header length has nine bits.
const IP_HEADER_LENGTH_MOST: usize = 511;
const TCP_HEADER_LENGTH: usize = 20;
const UDP_HEADER_LENGTH: usize = 8;
const TCP_NUMBER: u8 = 6;
const UDP_NUMBER: u8 = 17;
/// The transport checksum's place behind the start of the transport header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

impl TransmitOffload {
    /// Bytes from the start of the frame to the end of the transport header.
    pub fn header_length(&self) -> usize {
        self.transport_start() + usize::from(self.transport_header_length)
    }

    fn transport_start(&self) -> usize {
        ETHERNET_HEADER_LENGTH + usize::from(self.ip_header_length)
    }

    /// Checks that the numbers go together and fit the NIC's fields.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let least = match self.protocol {
            InternetProtocol::V4 => IPV4_HEADER_LENGTH,
            InternetProtocol::V6 => IPV6_HEADER_LENGTH,
        };
        if !(least..=IP_HEADER_LENGTH_MOST).contains(&self.ip_header_length.into()) {
            return Err("the IP header's length is not one the NIC can handle");
        }
        let transport_length = usize::from(self.transport_header_length);
        let fits = match self.transport {
            None => transport_length == 0,
            Some(Transport::Tcp) => (TCP_HEADER_LENGTH..=60).contains(&transport_length),
            Some(Transport::Udp) => transport_length == UDP_HEADER_LENGTH,
        };
        if !fits {
            return Err("the transport header's length does not fit its protocol");
        }
        if self.segment_size != 0 && self.transport != Some(Transport::Tcp) {
            return Err("only TCP can be segmented");
        }
        Ok(())
    }
}

/// Prepares headers for a frame of `frame_length` bytes that is sent with
/// `offload`: sets the IPv4 header checksum to 0 and puts the sum over the pseudo
/// header into the transport checksum field.
///
/// `headers` is a private copy of the frame from the Ethernet header through the
/// transport header at least.
///
/// # Errors
///
/// What in the frame contradicts the offload. Nothing is written then.
pub fn prepare_checksums(
    headers: &mut [u8],
    offload: &TransmitOffload,
    frame_length: usize,
) -> Result<(), &'static str> {
    offload.check()?;
    let transport = offload.transport_start();
    let end = offload.header_length();
    if headers.len() < end || frame_length < end {
        return Err("the frame is shorter than its headers");
    }
    let ip = &headers[ETHERNET_HEADER_LENGTH..transport];
    let header_fits = match offload.protocol {
        InternetProtocol::V4 => ip[0] >> 4 == 4 && usize::from(ip[0] & 15) * 4 == ip.len(),
        InternetProtocol::V6 => ip[0] >> 4 == 6,
    };
    if !header_fits {
        return Err("the IP header is not the one the offload describes");
    }
    let Some(protocol) = offload.transport else {
        clear_ip_checksum(headers, offload.protocol);
        return Ok(());
    };
    let (addresses, number) = match offload.protocol {
        InternetProtocol::V4 => (&ip[12..20], Some(ip[9])),
        // With extension headers the last one names the protocol; the caller
        // has walked them.
        InternetProtocol::V6 => (
            &ip[8..40],
            (ip.len() == IPV6_HEADER_LENGTH).then_some(ip[6]),
        ),
    };
    let (expected, field) = match protocol {
        Transport::Tcp => (TCP_NUMBER, TCP_CHECKSUM),
        Transport::Udp => (UDP_NUMBER, UDP_CHECKSUM),
    };
    if number.is_some_and(|number| number != expected) {
        return Err("the IP header names another transport protocol than the offload");
    }
    if protocol == Transport::Tcp
        && usize::from(headers[transport + 12] >> 4) * 4
            != usize::from(offload.transport_header_length)
    {
        return Err("the TCP header's length is not the one the offload says");
    }
    let length = if offload.segment_size == 0 {
        frame_length - transport
    } else {
        0
    };
    if length > 0xffff {
        return Err("the frame is longer than an IP packet");
    }
    let sum = fold(sum_words(addresses) + u32::from(expected) + length as u32);
    clear_ip_checksum(headers, offload.protocol);
    headers[transport + field..transport + field + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

fn clear_ip_checksum(headers: &mut [u8], protocol: InternetProtocol) {
    if protocol == InternetProtocol::V4 {
        headers[ETHERNET_HEADER_LENGTH + 10..ETHERNET_HEADER_LENGTH + 12].fill(0);
    }
}

/// Adds up big-endian 16-bit words (RFC 1071); an odd last byte counts as the
/// upper half of one. At most 64 KiB, so nothing is lost in 32 bits.
pub(crate) fn sum_words(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2);
    let last = words
        .remainder()
        .first()
        .map_or(0, |&byte| u32::from(byte) << 8);
    words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u32>()
        + last
}

/// Folds the carries of a sum back in.
pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
