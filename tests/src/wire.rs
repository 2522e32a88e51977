//! Judging frames that have left the machine, by rules of its own: slow and obvious.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use segue_forgeries::FORGED;

/// What applications behind one address may send.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Their MAC address.
    pub mac: [u8; 6],
    /// Their IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Their IPv6 addresses, link-local ones included.
    pub ipv6: Vec<Ipv6Addr>,
    /// The TCP ports that they own.
    pub tcp_ports: Vec<u16>,
    /// The UDP ports that they own.
    pub udp_ports: Vec<u16>,
    /// First fragments seen: destination and identification.
    first_fragments: HashSet<([u8; 4], u16)>,
}

type Verdict = Result<(), &'static str>;

impl Judge {
    /// A judge of the default system's address.
    pub fn new(tcp_ports: Vec<u16>, udp_ports: Vec<u16>) -> Self {
        Self::at(
            crate::frames::APPLICATION_MAC.0,
            crate::host::APPLICATION,
            Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15),
            tcp_ports,
            udp_ports,
        )
    }

    /// A judge of these addresses, and of the link-local one.
    pub fn at(
        mac: [u8; 6],
        ipv4: Ipv4Addr,
        ipv6: Ipv6Addr,
        tcp_ports: Vec<u16>,
        udp_ports: Vec<u16>,
    ) -> Self {
        let [a, b, c, d, e, f] = mac;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        let link_local = Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            pair(a ^ 2, b),
            pair(c, 0xff),
            pair(0xfe, d),
            pair(e, f),
        );
        Self {
            mac,
            ipv4,
            ipv6: vec![ipv6, link_local],
            tcp_ports,
            udp_ports,
            first_fragments: HashSet::new(),
        }
    }

    /// Whether a frame may be on the wire.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&mut self, frame: &[u8]) -> Verdict {
        check(!holds(frame, FORGED), "it was forged by the rogue")?;
        self.verify_rules(frame)
    }

    /// Without looking for the forger's mark.
    fn verify_rules(&mut self, frame: &[u8]) -> Verdict {
        check((14..=1514).contains(&frame.len()), "its length")?;
        check(frame[6..12] == self.mac, "its source MAC address")?;
        match frame[12..14] {
            [8, 6] => self.verify_arp(&frame[14..]),
            [8, 0] => self.verify_ipv4(&frame[14..]),
            [0x86, 0xdd] => self.verify_ipv6(&frame[14..]),
            _ => Err("its type"),
        }
    }

    fn verify_arp(&self, packet: &[u8]) -> Verdict {
        check(packet.len() >= 28, "ARP cut short")?;
        check(packet[..7] == [0, 1, 8, 0, 6, 4, 0], "strange ARP")?;
        check(matches!(packet[7], 1 | 2), "the operation of ARP")?;
        check(packet[8..14] == self.mac, "ARP with another MAC address")?;
        let ours = self.ipv4.octets();
        let is_probe = packet[7] == 1 && packet[14..18] == [0; 4] && packet[24..28] == ours;
        check(packet[14..18] == ours || is_probe, "ARP for another")
    }

    fn verify_ipv4(&mut self, packet: &[u8]) -> Verdict {
        check(packet.len() >= 20, "IPv4 cut short")?;
        check(packet[0] == 0x45, "the version or options of IPv4")?;
        let total = usize::from(half(packet, 2));
        check((20..=packet.len()).contains(&total), "the length of IPv4")?;
        check(
            packet[12..16] == self.ipv4.octets(),
            "the source address of IPv4",
        )?;
        let field = half(packet, 6);
        let (offset, more) = (field & 0x1fff, field & 0x2000 != 0);
        let payload = &packet[20..total];
        if offset == 0 && !more {
            return self.verify_transport(packet[9], payload, true, false);
        }
        check(packet[9] == 17, "a fragment of other than UDP")?;
        let destination = packet[16..20].try_into().expect("four bytes");
        let datagram = (destination, half(packet, 4));
        if offset == 0 {
            self.verify_transport(17, payload, true, true)?;
            self.first_fragments.insert(datagram);
            return Ok(());
        }
        check(
            self.first_fragments.contains(&datagram),
            "a later fragment without a first",
        )
    }

    fn verify_transport(&self, protocol: u8, payload: &[u8], v4: bool, part: bool) -> Verdict {
        match protocol {
            6 => {
                check(payload.len() >= 20, "TCP cut short")?;
                let header = usize::from(payload[12] >> 4) * 4;
                check((20..=payload.len()).contains(&header), "the TCP header")?;
                let flags = payload[13];
                let is_reset = flags & 7 == 4 && payload.len() == header;
                let port = half(payload, 0);
                let is_own = self.tcp_ports.contains(&port);
                // What has no owner is answered by the server. A port of an application is
                // the application's, and only it resets.
                check(is_own || is_reset, "the TCP source port")
            }
            17 => {
                check(payload.len() >= 8, "UDP cut short")?;
                let length = usize::from(half(payload, 4));
                let fits = match part {
                    true => length > payload.len(),
                    false => length == payload.len(),
                };
                check(fits, "the length of UDP")?;
                check(
                    self.udp_ports.contains(&half(payload, 0)),
                    "the UDP source port",
                )
            }
            1 if v4 => self.verify_icmp(payload),
            58 if !v4 => Err("ICMPv6 is judged elsewhere"),
            _ => Err("its IP protocol"),
        }
    }

    fn verify_icmp(&self, message: &[u8]) -> Verdict {
        check(message.len() >= 8, "ICMP cut short")?;
        match message[0] {
            0 => Ok(()),
            8 => check(
                self.udp_ports.contains(&half(message, 4)),
                "the identifier of echo",
            ),
            3 => {
                let quoted = &message[8..];
                check(quoted.len() >= 24 && quoted[0] == 0x45, "what ICMP quotes")?;
                check(
                    quoted[16..20] == self.ipv4.octets(),
                    "what ICMP quotes was not for us",
                )?;
                check(
                    matches!(quoted[9], 6 | 17),
                    "ICMP about a protocol without ports",
                )
            }
            _ => Err("the type of ICMP"),
        }
    }

    fn verify_ipv6(&self, packet: &[u8]) -> Verdict {
        check(packet.len() >= 40, "IPv6 cut short")?;
        check(packet[0] >> 4 == 6, "the version of IPv6")?;
        let length = usize::from(half(packet, 4));
        check(40 + length <= packet.len(), "the length of IPv6")?;
        let source: [u8; 16] = packet[8..24].try_into().expect("sixteen bytes");
        let source = Ipv6Addr::from(source);
        let payload = &packet[40..40 + length];
        let is_own = self.ipv6.contains(&source);
        if packet[6] != 58 {
            check(is_own, "the source address of IPv6")?;
            return self.verify_transport(packet[6], payload, false, false);
        }
        self.verify_icmpv6(payload, packet[7], source)
    }

    fn verify_icmpv6(&self, message: &[u8], hops: u8, source: Ipv6Addr) -> Verdict {
        check(message.len() >= 8, "ICMPv6 cut short")?;
        let is_own = self.ipv6.contains(&source);
        let probe = message[0] == 135 && source.is_unspecified();
        check(is_own || probe, "the source address of ICMPv6")?;
        match message[0] {
            129 => Ok(()),
            128 => check(
                self.udp_ports.contains(&half(message, 4)),
                "the identifier of echo",
            ),
            1 => {
                let quoted = &message[8..];
                check(quoted.len() >= 44, "what ICMPv6 quotes")?;
                check(
                    self.is_ours(&quoted[24..40]),
                    "what ICMPv6 quotes was not for us",
                )
            }
            135 | 136 => {
                check(hops == 255, "the hop limit of neighbour discovery")?;
                check(message.len() >= 24, "neighbour discovery cut short")?;
                let target = self.is_ours(&message[8..24]);
                check(
                    target || message[0] == 135 && !probe,
                    "the target of neighbour discovery",
                )?;
                let options = &message[24..];
                let kind = if message[0] == 135 { 1 } else { 2 };
                let right = options.len() == 8 && options[..2] == [kind, 1];
                check(
                    options.is_empty() || right && options[2..] == self.mac && !probe,
                    "the options of neighbour discovery",
                )
            }
            _ => Err("the type of ICMPv6"),
        }
    }

    fn is_ours(&self, address: &[u8]) -> bool {
        self.ipv6.iter().any(|ours| ours.octets() == *address)
    }
}

/// Whether `bytes` stands somewhere in `frame`.
pub fn holds(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}

fn check(condition: bool, otherwise: &'static str) -> Verdict {
    condition.then_some(()).ok_or(otherwise)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_forgeries::{ANOTHERS_PORT, Frame, HONEST, OWN_PORT, Parties, forgeries};
    use segue_frame_channel::FrameOffload;
    use segue_status::network::EgressDrop;

    fn parties() -> Parties {
        Parties {
            mac: crate::frames::APPLICATION_MAC.0,
            ipv4: crate::host::APPLICATION.octets(),
            ipv6: Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15).octets(),
            peer_mac: crate::frames::PEER_MAC.0,
            peer_ipv4: crate::frames::PEER.octets(),
            peer_ipv6: Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 2).octets(),
        }
    }

    /// Without the rogue's port: from the wire it cannot be told who has sent from a port that is
    /// owned, so here the rogue's frames are judged as if it were the only one.
    fn judge() -> Judge {
        Judge::new(vec![OWN_PORT], vec![OWN_PORT])
    }

    #[test]
    fn a_forged_frame_on_the_wire_would_be_seen() {
        let mut frame = Frame::default();
        for forgery in forgeries() {
            forgery.make(&parties(), &mut frame);
            let verdict = judge().verify_rules(frame.bytes());
            // These are about what the sender says of the frame; the frame itself is right, or is
            // one that the card has to cut.
            let about_descriptor = frame.offload != FrameOffload::default()
                || frame.header_length < frame.bytes().len().min(256)
                || forgery.cause == EgressDrop::TooLong;
            assert!(
                verdict.is_err() || about_descriptor || needs_knowledge(forgery.name),
                "{}: not seen",
                forgery.name
            );
            assert!(
                judge().verify(frame.bytes()).is_err(),
                "{}: not marked",
                forgery.name
            );
        }
    }

    /// Of these the mark alone tells: the frames could be another application's own.
    fn needs_knowledge(name: &str) -> bool {
        [
            "another's connection",
            "another's TCP port",
            "another's IPv6 TCP port",
        ]
        .iter()
        .any(|words| name.contains(words))
    }

    #[test]
    fn an_honest_frame_on_the_wire_is_right() {
        let (mut frame, mut judge) = (Frame::default(), judge());
        for (index, honest) in (0..).zip(HONEST) {
            honest.make(index, &parties(), &mut frame);
            if frame.offload.segment_size == 0 {
                let verdict = judge.verify(frame.bytes());
                assert_eq!(verdict, Ok(()), "{}", honest.name);
            }
        }
        assert_ne!(OWN_PORT, ANOTHERS_PORT);
    }
}
