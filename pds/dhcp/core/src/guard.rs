//! Which answers of a DHCP server are believed.

use crate::{LONGEST_LEASE, Lease};
use core::fmt;
use core::net::Ipv4Addr;
use segue_portmap_core::ipv4::{is_host, is_router};
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    IpProtocol, Ipv4Packet, UdpPacket,
};

/// Shortest lease in seconds: a shorter one would be renewed without end.
pub const SHORTEST_LEASE: u32 = 10;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// The operation code of a server's message (RFC 2131, section 2).
const REPLY: u8 = 2;

/// An answer that was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it says it comes from.
    pub from: Ipv4Addr,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its lengths contradict each other, or a field means nothing.
    Malformed,
    /// It is for another station.
    OtherStation,
    /// It has another transaction number than the question.
    OtherTransaction,
    /// It does not say which server it is from.
    NoServer,
    /// It comes from another server than the one that was asked.
    OtherServer(Ipv4Addr),
    /// It gives another address than the one that was offered, or is being renewed.
    OtherAddress(Ipv4Addr),
    /// It has no network mask.
    NoMask,
    /// It has a mask that is none.
    Mask(Ipv4Addr),
    /// No host can have the address in this network.
    Address(Ipv4Addr, u8),
    /// The router is not a different host of the network.
    Router(Ipv4Addr),
    /// It has no lease time.
    NoTime,
    /// The lease is too short.
    Time(u32),
    /// It wants to be asked again too soon.
    Renewal(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an answer from {} is not believed: ", self.from)?;
        match self.reason {
            Reason::Malformed => f.write_str("it is malformed"),
            Reason::OtherStation => f.write_str("it is for another station"),
            Reason::OtherTransaction => f.write_str("it answers another question"),
            Reason::NoServer => f.write_str("it does not say which server it is from"),
            Reason::OtherServer(server) => {
                write!(f, "it is from server {server}, which was not asked")
            }
            Reason::OtherAddress(address) => {
                write!(f, "it gives {address}, which was not asked for")
            }
            Reason::NoMask => f.write_str("it has no network mask"),
            Reason::Mask(mask) => write!(f, "{mask} is no network mask"),
            Reason::Address(address, length) => {
                write!(f, "no host can have the address {address}/{length}")
            }
            Reason::Router(router) => {
                write!(f, "{router} cannot be the router of this network")
            }
            Reason::NoTime => f.write_str("it does not say for how long"),
            Reason::Time(seconds) => write!(
                f,
                "a lease of {seconds} s is shorter than {SHORTEST_LEASE} s"
            ),
            Reason::Renewal(seconds) => write!(f, "it wants to be asked again after {seconds} s"),
        }
    }
}

/// What was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Nothing yet.
    None,
    /// Who has an address?
    Discover,
    /// May I have what you have offered?
    Request,
    /// May I keep it?
    Renew,
    /// As [`Question::Renew`], to every server.
    Rebind,
}

/// Looks at frames before the client does.
pub(crate) struct Guard {
    hardware: EthernetAddress,
    transaction: u32,
    question: Question,
    /// Address and server of what was offered, or is leased.
    chosen: Option<(Ipv4Addr, Ipv4Addr)>,
    /// What the last answer that passed has given.
    granted: Option<Lease>,
}

impl Guard {
    pub fn new(hardware: EthernetAddress) -> Self {
        Self {
            hardware,
            transaction: 0,
            question: Question::None,
            chosen: None,
            granted: None,
        }
    }

    /// What was granted last, if it is this address.
    pub fn lease(&self, address: Ipv4Addr) -> Option<Lease> {
        self.granted
            .filter(|lease| Ipv4Addr::from(lease.address) == address)
    }

    /// Notes what the client asks.
    pub fn sent(&mut self, frame: &[u8]) {
        let Some((_, to, payload)) = datagram(frame, SERVER_PORT) else {
            return;
        };
        let Ok(packet) = DhcpPacket::new_checked(payload) else {
            return;
        };
        let Ok(message) = DhcpRepr::parse(&packet) else {
            return;
        };
        self.transaction = message.transaction_id;
        self.question = match message.message_type {
            DhcpMessageType::Discover => {
                self.chosen = None;
                Question::Discover
            }
            _ if message.client_ip.is_unspecified() => Question::Request,
            _ if to.is_broadcast() => Question::Rebind,
            _ => Question::Renew,
        };
    }

    /// Whether the client may see a frame. What is not for a DHCP client it may.
    pub fn received(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        let Some((from, _, payload)) = datagram(frame, CLIENT_PORT) else {
            return Ok(());
        };
        self.judge(payload)
            .map_err(|reason| Refusal { from, reason })
    }

    fn judge(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let packet = DhcpPacket::new_checked(payload).map_err(|_| Reason::Malformed)?;
        let message = DhcpRepr::parse(&packet).map_err(|_| Reason::Malformed)?;
        if payload.first() != Some(&REPLY) {
            return Err(Reason::Malformed);
        }
        if message.client_hardware_address != self.hardware {
            return Err(Reason::OtherStation);
        }
        if self.question == Question::None || message.transaction_id != self.transaction {
            return Err(Reason::OtherTransaction);
        }
        let server = message.server_identifier.ok_or(Reason::NoServer)?;
        match message.message_type {
            DhcpMessageType::Offer => {
                if self.question == Question::Discover && self.chosen.is_none() {
                    check(&message)?;
                    self.chosen = Some((message.your_ip, server));
                }
                // Later ones are left alone.
                Ok(())
            }
            DhcpMessageType::Ack => {
                self.is_chosen(server)?;
                let lease = check(&message)?;
                if let Some((address, _)) = self.chosen
                    && address != message.your_ip
                {
                    return Err(Reason::OtherAddress(message.your_ip));
                }
                self.granted = Some(Lease {
                    server: server.octets(),
                    ..lease
                });
                self.chosen = Some((message.your_ip, server));
                Ok(())
            }
            DhcpMessageType::Nak => self.is_chosen(server),
            // No server says anything else to a client.
            _ => Err(Reason::Malformed),
        }
    }

    /// Whether this server was asked.
    fn is_chosen(&self, server: Ipv4Addr) -> Result<(), Reason> {
        match (self.question, self.chosen) {
            (Question::Rebind, Some(_)) => Ok(()),
            (Question::Request | Question::Renew, Some((_, chosen))) if chosen == server => Ok(()),
            _ => Err(Reason::OtherServer(server)),
        }
    }
}

/// Whether what a message gives makes sense.
fn check(message: &DhcpRepr) -> Result<Lease, Reason> {
    let address = message.your_ip;
    let mask = message.subnet_mask.ok_or(Reason::NoMask)?;
    let bits = mask.to_bits();
    if bits.leading_ones() + bits.trailing_zeros() != 32 {
        return Err(Reason::Mask(mask));
    }
    let prefix_length = bits.leading_ones() as u8;
    if !is_host(address.octets(), prefix_length) {
        return Err(Reason::Address(address, prefix_length));
    }
    if let Some(router) = message.router
        && !is_router(router.octets(), address.octets(), prefix_length)
    {
        return Err(Reason::Router(router));
    }
    let seconds = message.lease_duration.ok_or(Reason::NoTime)?;
    if seconds < SHORTEST_LEASE {
        return Err(Reason::Time(seconds));
    }
    if let Some(renewal) = message
        .renew_duration
        .filter(|renewal| *renewal < SHORTEST_LEASE / 2)
    {
        return Err(Reason::Renewal(renewal));
    }
    Ok(Lease {
        address: address.octets(),
        prefix_length,
        router: message.router.map(|router| router.octets()),
        seconds: seconds.min(LONGEST_LEASE),
        server: [0; 4],
    })
}

/// Source, destination and payload of a UDP datagram to this port; `None` if the frame is
/// anything else.
fn datagram(frame: &[u8], port: u16) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    (datagram.dst_port() == port)
        .then(|| (packet.src_addr(), packet.dst_addr(), datagram.payload()))
}
