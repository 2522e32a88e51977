//! Whose is this frame?

use super::world::{TCP, UDP, World};
use super::{ALL_NODES, EXTENSION_HEADERS, Frame, solicited_node};
use segue_netserver_core::ingress::Answer;
use segue_status::network::IngressDrop;

/// Most of a frame that is looked at.
const LOOKED_AT: usize = 150;

/// What is to be done with a frame.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Deliver(u64),
    Answer(Answer),
    /// A fragment: our address, the peer's, protocol, identification.
    First(Datagram, u64),
    Later(Datagram),
    /// For one of these causes.
    Drop(Vec<IngressDrop>),
}

pub type Datagram = ([u8; 4], [u8; 4], usize, usize);

use Verdict::{Answer as Say, Deliver, First, Later};

struct Look<'a> {
    world: &'a World,
    up: u64,
    from_network: bool,
    frame: Frame<'a>,
}

/// What is to be done with a whole frame.
pub fn demultiplex(world: &World, up: u64, from_network: bool, frame: &[u8]) -> Verdict {
    let look = Look {
        world,
        up,
        from_network,
        frame: Frame(frame),
    };
    look.ethernet()
}

fn dropped(cause: IngressDrop) -> Verdict {
    Verdict::Drop(vec![cause])
}

fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 != 0
}

/// Whether this can be the address of one host's interface.
fn is_one_hosts(mac: [u8; 6]) -> bool {
    !is_group(mac)
}

impl Look<'_> {
    fn length(&self) -> usize {
        self.frame.length()
    }

    /// To those of a set that are up. Groups on the network reach those in direct mode
    /// by themselves.
    fn deliver(&self, mut to: u64) -> Verdict {
        if self.from_network && is_group(self.frame.mac(0)) {
            to &= !self.world.direct;
            if to == 0 {
                return dropped(IngressDrop::DirectMode);
            }
        }
        match to & self.up {
            0 => dropped(IngressDrop::ChannelDown),
            up => Deliver(up),
        }
    }

    /// By the server, for a set of sharers.
    fn answer(&self, sharers: u64, answer: Answer) -> Verdict {
        if sharers & self.up == 0 {
            return dropped(IngressDrop::ChannelDown);
        }
        Say(answer)
    }

    /// To the owner of a port among a set of sharers; `free` if there is none.
    fn to_owner(
        &self,
        version: usize,
        protocol: usize,
        port: usize,
        sharers: u64,
        free: Verdict,
    ) -> Verdict {
        match self.world.owners(version, protocol, port, sharers) {
            0 => free,
            owner => self.deliver(owner),
        }
    }

    fn ethernet(&self) -> Verdict {
        if self.length() < 14 {
            return dropped(IngressDrop::Malformed);
        }
        let to = self.frame.mac(0);
        if !is_group(to) && self.world.with_mac(to) == 0 {
            return dropped(IngressDrop::NotOurAddress);
        }
        match self.frame.word(12) {
            0x0800 => self.ipv4(),
            0x0806 => self.arp(),
            0x86dd => self.ipv6(),
            _ => dropped(IngressDrop::EtherType),
        }
    }

    fn arp(&self) -> Verdict {
        if self.length() < 42
            || self.frame.word(14) != 1
            || self.frame.word(16) != 0x0800
            || self.frame.word(18) != 0x0604
        {
            return dropped(IngressDrop::Malformed);
        }
        let operation = self.frame.word(20);
        let whose = self.world.with_ipv4(self.frame.ipv4(38));
        if whose == 0 {
            return Verdict::Drop(vec![IngressDrop::ArpNotOurs, IngressDrop::Malformed]);
        }
        match operation {
            2 => self.deliver(whose),
            1 if self.world.is_alone(whose) => self.deliver(whose),
            1 => {
                let asker = self.frame.mac(22);
                if whose & self.up == 0 {
                    return dropped(IngressDrop::ChannelDown);
                }
                if asker != self.frame.mac(6) || !is_one_hosts(asker) {
                    return dropped(IngressDrop::Malformed);
                }
                Say(Answer::Arp)
            }
            _ => dropped(IngressDrop::Malformed),
        }
    }

    fn ipv4(&self) -> Verdict {
        if self.length() < 34 {
            return dropped(IngressDrop::Malformed);
        }
        let start = 14 + 4 * (self.frame.byte(14) & 15);
        let end = 14 + self.frame.word(16);
        if self.frame.byte(14) >> 4 != 4 || start < 34 || end < start || end > self.length() {
            return dropped(IngressDrop::Malformed);
        }
        let flags = self.frame.word(20);
        let (more, offset) = (flags & 0x2000 != 0, 8 * (flags & 0x1fff));
        let is_fragment = more || offset != 0;
        let protocol = self.frame.byte(23);
        let (source, destination) = (self.frame.ipv4(26), self.frame.ipv4(30));
        if self.from_network && self.world.with_ipv4(source) != 0 {
            return dropped(IngressDrop::SourceAddress);
        }
        let clients = self.world.who(|application| application.dhcp_client);
        if clients != 0 && protocol == UDP && !is_fragment {
            if start + 4 > end {
                return dropped(IngressDrop::Malformed);
            }
            let to = self.frame.mac(0);
            let owner = self.world.owners(4, UDP, 68, clients);
            let reaches = to == [0xff; 6] || self.world.with_mac(to) & owner != 0;
            if self.frame.word(start + 2) == 68 && owner != 0 && reaches {
                if self.from_network {
                    return self.deliver(owner);
                }
                return dropped(IngressDrop::NoOwner);
            }
        }
        let whose = self.world.with_ipv4(destination);
        if whose == 0 {
            if self.world.is_broadcast(destination) {
                return self.broadcast(start, end, protocol, is_fragment);
            }
            if (224..240).contains(&destination[0]) {
                return dropped(IngressDrop::Multicast);
            }
            return dropped(IngressDrop::NotOurAddress);
        }
        if self.world.with_mac(self.frame.mac(0)) & whose == 0 {
            return dropped(IngressDrop::NotOurAddress);
        }
        if self.world.is_alone(whose) {
            return self.deliver(whose);
        }
        if is_fragment {
            let header = match protocol {
                TCP => 20,
                UDP => 8,
                _ => return dropped(IngressDrop::Fragment),
            };
            let datagram = (destination, source, protocol, self.frame.word(18));
            if offset != 0 {
                if offset < header {
                    return dropped(IngressDrop::ShortFragment);
                }
                return Later(datagram);
            }
            if end - start < header {
                return dropped(IngressDrop::ShortFragment);
            }
            let port = self.frame.word(start + 2);
            return match self.world.owners(4, protocol, port, whose) {
                0 => dropped(IngressDrop::NoOwner),
                owner if owner & self.up == 0 => dropped(IngressDrop::ChannelDown),
                owner => First(datagram, owner),
            };
        }
        match protocol {
            TCP | UDP => self.by_port(4, protocol, start, end, whose),
            1 => self.icmp(start, end, whose),
            _ => dropped(IngressDrop::Protocol),
        }
    }

    /// TCP or UDP to sharers.
    fn by_port(
        &self,
        version: usize,
        protocol: usize,
        start: usize,
        end: usize,
        whose: u64,
    ) -> Verdict {
        if start + 4 > end {
            return dropped(IngressDrop::Malformed);
        }
        let port = self.frame.word(start + 2);
        let answer = if protocol == TCP {
            Answer::Reset
        } else {
            Answer::Unreachable
        };
        self.to_owner(version, protocol, port, whose, self.answer(whose, answer))
    }

    fn broadcast(&self, start: usize, end: usize, protocol: usize, is_fragment: bool) -> Verdict {
        if is_fragment {
            return dropped(IngressDrop::Fragment);
        }
        match protocol {
            1 => return dropped(IngressDrop::Icmp),
            UDP => {}
            _ => return dropped(IngressDrop::Protocol),
        }
        if start + 4 > end {
            return dropped(IngressDrop::Malformed);
        }
        let port = self.frame.word(start + 2);
        let sharing = self.world.who(|application| !application.own);
        self.to_owner(4, UDP, port, sharing, dropped(IngressDrop::NoOwner))
    }

    fn icmp(&self, start: usize, end: usize, whose: u64) -> Verdict {
        if start + 8 > end {
            return dropped(IngressDrop::Malformed);
        }
        let no_owner = dropped(IngressDrop::NoOwner);
        match self.frame.byte(start) {
            8 => self.answer(whose, Answer::Echo),
            0 => self.to_owner(4, UDP, self.frame.word(start + 4), whose, no_owner),
            3 | 11 | 12 => {
                let quoted = start + 8;
                if quoted + 20 > end {
                    return dropped(IngressDrop::Malformed);
                }
                let ports = quoted + 4 * (self.frame.byte(quoted) & 15);
                if self.frame.byte(quoted) >> 4 != 4
                    || ports < quoted + 20
                    || self.world.with_ipv4(self.frame.ipv4(quoted + 12)) != whose
                    || self.frame.word(quoted + 6) & 0x1fff != 0
                {
                    return dropped(IngressDrop::Icmp);
                }
                let (protocol, at) = match self.frame.byte(quoted + 9) {
                    TCP => (TCP, ports),
                    UDP => (UDP, ports),
                    // The identifier of an echo request.
                    1 => (UDP, ports + 4),
                    _ => return dropped(IngressDrop::Icmp),
                };
                if at + 2 > end {
                    return dropped(IngressDrop::Malformed);
                }
                self.to_owner(4, protocol, self.frame.word(at), whose, no_owner)
            }
            _ => dropped(IngressDrop::Icmp),
        }
    }

    fn ipv6(&self) -> Verdict {
        if self.length() < 54 {
            return dropped(IngressDrop::Malformed);
        }
        let end = 54 + self.frame.word(18);
        if self.frame.byte(14) >> 4 != 6 || end > self.length() {
            return dropped(IngressDrop::Malformed);
        }
        let next_header = self.frame.byte(20);
        let (source, destination) = (self.frame.ipv6(22), self.frame.ipv6(38));
        if self.from_network && self.world.with_ipv6(source) != 0 {
            return dropped(IngressDrop::SourceAddress);
        }
        let is_solicitation = next_header == 58 && end > 54 && self.frame.byte(54) == 135;
        if destination[0] == 0xff {
            let in_group = self.world.who(|application| {
                let mut addresses = application.ipv6.iter();
                addresses.any(|address| solicited_node(*address) == destination)
            });
            let is_solicited_node = solicited_node(destination) == destination;
            if is_solicitation && (is_solicited_node || destination == ALL_NODES) {
                return self.solicitation(end, None);
            }
            let alone = self.world.who(|application| application.alone);
            return match in_group & alone {
                0 => dropped(IngressDrop::Multicast),
                alone => self.deliver(alone),
            };
        }
        let whose = self.world.with_ipv6(destination);
        if whose == 0 || self.world.with_mac(self.frame.mac(0)) != whose {
            return dropped(IngressDrop::NotOurAddress);
        }
        if self.world.is_alone(whose) {
            return self.deliver(whose);
        }
        match next_header {
            TCP | UDP => self.by_port(6, next_header, 54, end, whose),
            58 if is_solicitation && end >= 62 => self.solicitation(end, Some(whose)),
            58 => self.icmpv6(end, whose),
            44 => dropped(IngressDrop::Fragment),
            other if EXTENSION_HEADERS.contains(&other) => dropped(IngressDrop::ExtensionHeader),
            _ => dropped(IngressDrop::Protocol),
        }
    }

    fn icmpv6(&self, end: usize, whose: u64) -> Verdict {
        if end < 62 {
            return dropped(IngressDrop::Malformed);
        }
        let no_owner = dropped(IngressDrop::NoOwner);
        match self.frame.byte(54) {
            128 => self.answer(whose, Answer::Echo),
            129 => self.to_owner(6, UDP, self.frame.word(58), whose, no_owner),
            1..=4 => {
                if end < 62 + 40 {
                    return dropped(IngressDrop::Malformed);
                }
                if self.frame.byte(62) >> 4 != 6
                    || self.world.with_ipv6(self.frame.ipv6(62 + 8)) != whose
                {
                    return dropped(IngressDrop::Icmp);
                }
                let (protocol, at) = match self.frame.byte(68) {
                    TCP => (TCP, 102),
                    UDP => (UDP, 102),
                    58 => (UDP, 106),
                    _ => return dropped(IngressDrop::Icmp),
                };
                if at + 2 > end {
                    return dropped(IngressDrop::Malformed);
                }
                if at == 106 && self.frame.byte(102) != 128 {
                    return dropped(IngressDrop::Icmp);
                }
                self.to_owner(6, protocol, self.frame.word(at), whose, no_owner)
            }
            136 => {
                if end < 78 {
                    return dropped(IngressDrop::Malformed);
                }
                if self.frame.byte(21) != 255 || self.frame.byte(55) != 0 {
                    return dropped(IngressDrop::NeighborDiscovery);
                }
                if self.from_network && self.world.with_ipv6(self.frame.ipv6(62)) != 0 {
                    return dropped(IngressDrop::SourceAddress);
                }
                self.deliver(whose)
            }
            133 | 134 | 137 => dropped(IngressDrop::NeighborDiscovery),
            _ => dropped(IngressDrop::Icmp),
        }
    }

    /// A neighbour solicitation, to a group or to these applications' address.
    fn solicitation(&self, end: usize, to: Option<u64>) -> Verdict {
        if end < 78 {
            return dropped(IngressDrop::Malformed);
        }
        let target = self.frame.ipv6(62);
        let whose = self.world.with_ipv6(target);
        if whose == 0 || to.is_some_and(|to| to != whose) {
            return dropped(IngressDrop::NeighborDiscovery);
        }
        if self.world.is_alone(whose) {
            return self.deliver(whose);
        }
        if whose & self.up == 0 {
            return dropped(IngressDrop::ChannelDown);
        }
        let (asker, source) = (self.frame.mac(6), self.frame.ipv6(22));
        let is_probe = source == [0; 16];
        let is_loopback = source == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let rules = [
            self.frame.byte(21) == 255,
            self.frame.byte(55) == 0,
            is_one_hosts(asker),
            source[0] != 0xff && !is_loopback,
            !is_probe || self.frame.ipv6(38) == solicited_node(target),
            self.options_are_fine(end, is_probe, asker),
        ];
        if rules.contains(&false) {
            return dropped(IngressDrop::Malformed);
        }
        Say(Answer::Neighbor)
    }

    fn options_are_fine(&self, end: usize, is_probe: bool, asker: [u8; 6]) -> bool {
        let mut at = 78;
        while at < end && at < LOOKED_AT {
            if at + 2 > end {
                return false;
            }
            let (kind, units) = (self.frame.byte(at), self.frame.byte(at + 1));
            if units == 0 || end <= LOOKED_AT && at + 8 * units > end {
                return false;
            }
            if kind == 1 && (is_probe || units != 1 || self.frame.mac(at + 2) != asker) {
                return false;
            }
            at += 8 * units;
        }
        true
    }
}
