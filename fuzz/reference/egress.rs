//! May this application send this frame?

use super::world::{Application, TCP, UDP, World};
use super::{EXTENSION_HEADERS, Frame, solicited_node};
use segue_frame_channel::FrameOffload;
use segue_status::network::EgressDrop;

/// What is known of a frame that breaks no rule.
#[derive(Default, Debug)]
pub struct Sound {
    /// The version of IP; 0: ARP.
    pub version: usize,
    /// Its transport protocol, and the length of that header: TCP or UDP.
    pub transport: Option<(usize, usize)>,
    /// It is a fragment, and whether the first.
    pub fragment: Option<bool>,
}

struct Look<'a> {
    world: &'a World,
    sender: &'a Application,
    frame: Frame<'a>,
    length: usize,
    offload: FrameOffload,
    broken: Vec<EgressDrop>,
    sound: Sound,
}

/// The rules that a frame of `length` bytes breaks if `sender` sends it; `header` is what
/// it says are its headers. None: what it is.
pub fn verify(
    world: &World,
    sender: usize,
    header: &[u8],
    length: usize,
    offload: FrameOffload,
) -> Result<Sound, Vec<EgressDrop>> {
    let mut look = Look {
        world,
        sender: &world.applications[sender],
        frame: Frame(header),
        length,
        offload,
        broken: Vec::new(),
        sound: Sound::default(),
    };
    look.ethernet();
    if look.broken.is_empty() {
        Ok(look.sound)
    } else {
        Err(look.broken)
    }
}

impl Look<'_> {
    fn refuse(&mut self, cause: EgressDrop) {
        self.broken.push(cause);
    }

    /// Whether the bytes up to `end` are there: in the packet, which ends at
    /// `packet_end`, and among the headers.
    fn has(&mut self, end: usize, packet_end: usize) -> bool {
        if end > packet_end {
            self.refuse(EgressDrop::Malformed);
            return false;
        }
        if end > self.frame.length() {
            self.refuse(EgressDrop::HeaderTooShort);
            return false;
        }
        true
    }

    fn ethernet(&mut self) {
        if self.frame.length() < 14 || self.length < self.frame.length() {
            return self.refuse(EgressDrop::Malformed);
        }
        let Some(mac) = self.sender.mac else {
            return self.refuse(EgressDrop::NoAddress);
        };
        if self.frame.mac(6) != mac {
            self.refuse(EgressDrop::SourceMac);
        }
        if self.length > 1514 && self.offload.segment_size == 0 {
            self.refuse(EgressDrop::TooLong);
        }
        match self.frame.word(12) {
            0x0800 => self.ipv4(),
            0x0806 => self.arp(mac),
            0x86dd => self.ipv6(),
            _ => self.refuse(EgressDrop::EtherType),
        }
    }

    fn arp(&mut self, mac: [u8; 6]) {
        if self.offload != FrameOffload::default() {
            self.refuse(EgressDrop::Offload);
        }
        if self.frame.length() < 42 {
            return self.refuse(EgressDrop::HeaderTooShort);
        }
        let is_request = self.frame.word(20) == 1;
        let is_reply = self.frame.word(20) == 2;
        if self.frame.word(14) != 1
            || self.frame.word(16) != 0x0800
            || self.frame.word(18) != 0x0604
            || !is_request && !is_reply
        {
            self.refuse(EgressDrop::Malformed);
        }
        let Some(ipv4) = self.sender.ipv4 else {
            return self.refuse(EgressDrop::NoAddress);
        };
        let its_mac = self.frame.mac(22) == mac;
        let its_address = self.frame.ipv4(28) == ipv4;
        let is_probe = is_request && self.frame.ipv4(28) == [0; 4] && self.frame.ipv4(38) == ipv4;
        if !its_mac || !its_address && !is_probe {
            self.refuse(EgressDrop::Arp);
        }
    }

    fn ipv4(&mut self) {
        self.sound.version = 4;
        if self.frame.length() < 34 {
            return self.refuse(EgressDrop::HeaderTooShort);
        }
        let header = 4 * (self.frame.byte(14) & 15);
        let end = 14 + self.frame.word(16);
        if self.frame.byte(14) >> 4 != 4 || header < 20 || end < 14 + header || end > self.length {
            return self.refuse(EgressDrop::Malformed);
        }
        if header != 20 {
            return self.refuse(EgressDrop::Options);
        }
        let flags = self.frame.word(20);
        let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
        let is_fragment = more || offset != 0;
        let protocol = self.frame.byte(23);
        let source = self.frame.ipv4(26);
        if source == [0; 4] || self.sender.ipv4 != Some(source) {
            let asks_for_address = self.sender.dhcp_client
                && source == [0; 4]
                && !is_fragment
                && protocol == UDP
                && self.frame.mac(0) == [0xff; 6]
                && self.frame.ipv4(30) == [255; 4]
                && self.frame.length() >= 38
                && self.frame.word(34) == 68
                && self.frame.word(36) == 67;
            if !asks_for_address {
                self.refuse(EgressDrop::SourceAddress);
                if self.sender.ipv4.is_none() {
                    self.refuse(EgressDrop::NoAddress);
                }
            }
        }
        if is_fragment {
            if !self.sender.alone {
                self.sound.fragment = Some(offset == 0);
                if protocol != UDP {
                    self.refuse(EgressDrop::Fragment);
                }
            }
            if self.offload.transport_checksum || self.offload.segment_size != 0 {
                self.refuse(EgressDrop::Offload);
            }
            if offset != 0 {
                if ![1, TCP, UDP].contains(&protocol) {
                    self.refuse(EgressDrop::Protocol);
                }
                return;
            }
        }
        match protocol {
            TCP => {
                let length = self.tcp(4, 34, end);
                if self.offload.segment_size != 0 {
                    self.segments(length, end);
                }
            }
            UDP => {
                self.udp(4, 34, end, is_fragment);
                if self.offload.segment_size != 0 {
                    self.refuse(EgressDrop::Offload);
                }
            }
            1 => {
                self.icmp(end);
                if self.offload.transport_checksum || self.offload.segment_size != 0 {
                    self.refuse(EgressDrop::Offload);
                }
            }
            _ => self.refuse(EgressDrop::Protocol),
        }
    }

    fn segments(&mut self, tcp_header: usize, end: usize) {
        if end != self.length {
            self.refuse(EgressDrop::Malformed);
        }
        if self.offload.segment_size < 64 {
            self.refuse(EgressDrop::Offload);
        }
        if 34 + tcp_header + usize::from(self.offload.segment_size) > 1514 {
            self.refuse(EgressDrop::TooLong);
        }
    }

    /// Whether the sender may speak for this port, or for one that nobody has.
    fn may_use(&self, version: usize, protocol: usize, port: usize, or_free: bool) -> bool {
        if self.sender.own {
            return true;
        }
        match self.world.owner(version, protocol, port) {
            Some(owner) => owner == self.sender.owner,
            None => or_free,
        }
    }

    /// Returns the length of the header.
    fn tcp(&mut self, version: usize, start: usize, end: usize) -> usize {
        if !self.has(start + 20, end) {
            return 0;
        }
        let header = 4 * (self.frame.byte(start + 12) >> 4);
        if header < 20 {
            self.refuse(EgressDrop::Malformed);
            return 0;
        }
        if !self.has(start + header, end) {
            return 0;
        }
        let (fin, syn, rst) = (1, 2, 4);
        let flags = self.frame.byte(start + 13) & (fin | syn | rst);
        let is_closed_ports_answer = flags == rst && start + header == end;
        let port = self.frame.word(start);
        if !self.may_use(version, TCP, port, is_closed_ports_answer) {
            self.refuse(EgressDrop::SourcePort);
        }
        self.sound.transport = Some((TCP, header));
        header
    }

    fn udp(&mut self, version: usize, start: usize, end: usize, is_fragment: bool) {
        if !self.has(start + 8, end) {
            return;
        }
        let length = self.frame.word(start + 4);
        let is_longer = start + length > end;
        if is_fragment && !is_longer || !is_fragment && start + length != end {
            self.refuse(EgressDrop::Malformed);
        }
        let port = self.frame.word(start);
        if !self.may_use(version, UDP, port, false) {
            self.refuse(EgressDrop::SourcePort);
        }
        self.sound.transport = Some((UDP, 8));
    }

    fn icmp(&mut self, end: usize) {
        if !self.has(42, end) {
            return;
        }
        match self.frame.byte(34) {
            0 => {}
            8 => self.echo_request(4, 38),
            3 => {
                if !self.has(42 + 24, end) {
                    return;
                }
                let header = 4 * (self.frame.byte(42) & 15);
                if self.frame.byte(42) >> 4 != 4
                    || header < 20
                    || Some(self.frame.ipv4(42 + 16)) != self.sender.ipv4
                {
                    return self.refuse(EgressDrop::Icmp);
                }
                if self.has(42 + header + 4, end) {
                    let (protocol, port) = (self.frame.byte(51), self.frame.word(42 + header + 2));
                    self.unreachable(4, protocol, port);
                }
            }
            _ => self.refuse(EgressDrop::Icmp),
        }
    }

    fn echo_request(&mut self, version: usize, identifier_at: usize) {
        let identifier = self.frame.word(identifier_at);
        if !self.sender.alone && !self.may_use(version, UDP, identifier, false) {
            self.refuse(EgressDrop::Icmp);
        }
    }

    fn unreachable(&mut self, version: usize, protocol: usize, port: usize) {
        let may = if protocol == TCP || protocol == UDP {
            self.may_use(version, protocol, port, true)
        } else {
            self.sender.alone
        };
        if !may {
            self.refuse(EgressDrop::Icmp);
        }
    }

    fn ipv6(&mut self) {
        self.sound.version = 6;
        if self.frame.length() < 54 {
            return self.refuse(EgressDrop::HeaderTooShort);
        }
        let end = 54 + self.frame.word(18);
        if self.frame.byte(14) >> 4 != 6 || end > self.length {
            return self.refuse(EgressDrop::Malformed);
        }
        let next_header = self.frame.byte(20);
        let source = self.frame.ipv6(22);
        let is_solicitation =
            next_header == 58 && end > 54 && self.frame.length() > 54 && self.frame.byte(54) == 135;
        let is_probe = is_solicitation && source == [0; 16];
        if !self.sender.ipv6.contains(&source) && !is_probe {
            self.refuse(EgressDrop::SourceAddress);
        }
        if self.offload.ipv4_checksum || self.offload.segment_size != 0 {
            self.refuse(EgressDrop::Offload);
        }
        match next_header {
            TCP => _ = self.tcp(6, 54, end),
            UDP => self.udp(6, 54, end, false),
            58 => {
                if self.offload.transport_checksum {
                    self.refuse(EgressDrop::Offload);
                }
                self.icmpv6(end);
            }
            44 => self.refuse(EgressDrop::Fragment),
            other if EXTENSION_HEADERS.contains(&other) => {
                self.refuse(EgressDrop::ExtensionHeader);
            }
            _ => self.refuse(EgressDrop::Protocol),
        }
    }

    fn icmpv6(&mut self, end: usize) {
        if !self.has(62, end) {
            return;
        }
        match self.frame.byte(54) {
            129 => {}
            128 => self.echo_request(6, 58),
            1 => {
                if !self.has(62 + 44, end) {
                    return;
                }
                if self.frame.byte(62) >> 4 != 6
                    || !self.sender.ipv6.contains(&self.frame.ipv6(62 + 24))
                {
                    self.refuse(EgressDrop::Icmp);
                }
                let (protocol, port) = (self.frame.byte(68), self.frame.word(62 + 42));
                self.unreachable(6, protocol, port);
            }
            135 | 136 => self.neighbour(end),
            133 | 134 | 137 => self.refuse(EgressDrop::NeighborDiscovery),
            _ => self.refuse(EgressDrop::Icmp),
        }
    }

    fn neighbour(&mut self, end: usize) {
        if end < 54 + 24 {
            return self.refuse(EgressDrop::Malformed);
        }
        // All of it.
        if !self.has(end, end) {
            return;
        }
        let is_solicitation = self.frame.byte(54) == 135;
        let target = self.frame.ipv6(62);
        let target_is_its_own = self.sender.ipv6.contains(&target);
        let source_is_none = self.frame.ipv6(22) == [0; 16];
        // An option: its kind, its length in units of eight bytes, a MAC address.
        let wanted_kind = if is_solicitation { 1 } else { 2 };
        let has_option = end != 78;
        let option_is_fine = end == 86
            && self.frame.byte(78) == wanted_kind
            && self.frame.byte(79) == 1
            && Some(self.frame.mac(80)) == self.sender.mac;
        let rules = [
            self.frame.byte(21) == 255,
            self.frame.byte(55) == 0,
            !has_option || option_is_fine,
            // An advertisement.
            is_solicitation || target_is_its_own,
            is_solicitation || self.frame.byte(58) < 0x80,
            // A probe.
            !source_is_none || target_is_its_own,
            !source_is_none || !has_option,
            !source_is_none || self.frame.ipv6(38) == solicited_node(target),
            // A question.
            target[0] != 0xff,
        ];
        if rules.contains(&false) {
            self.refuse(EgressDrop::NeighborDiscovery);
        }
    }
}
