//! What the stack says of its addresses unasked, and what it hears others say of them.

use crate::address::Address;
use crate::neighbours::{self, Question};
use crate::stack::Stack;
use crate::vif::Offload;
use core::net::IpAddr;
use smoltcp::time::Duration;

/// Time between two reports that somebody else claims an address of ours.
const REPORT_AGAIN: Duration = Duration::from_secs(60);

impl Stack {
    /// Tells all who know this interface's addresses where they lead: by an ARP
    /// announcement (RFC 5227, 2.3) and unsolicited neighbour advertisements (RFC 4861,
    /// 7.2.6), through the leg that transmits. The stack does it at each change of legs.
    pub fn announce(&mut self) {
        let hardware = self.local.hardware;
        if let Some(network) = self.local.ipv4 {
            let address = IpAddr::V4(network.address);
            if let Some(announcement) = neighbours::question(&hardware, address, address) {
                self.say(&announcement);
            }
        }
        let global = self.local.ipv6.map(|network| network.address);
        for address in global.into_iter().chain([self.local.link_local]) {
            self.say(&neighbours::advertise(&hardware, address));
        }
    }

    fn say(&mut self, announcement: &Question) {
        let frame = announcement.frame();
        self.vif.transmit(frame.len(), Offload::default(), |to| {
            to.copy_from_slice(frame)
        });
    }

    /// Notices that another hardware address claims an address of ours. It is not answered by
    /// an announcement: two who both insist would never come to an end. (A claim that is an ARP
    /// request gets the reply that any request for our address gets, to its sender alone.)
    pub(crate) fn look_for_conflict(&mut self, frame: &[u8]) {
        let Some((address, hardware)) = neighbours::claim(frame) else {
            return;
        };
        if hardware == self.local.hardware || !self.local.has(Address::from(address)) {
            return;
        }
        self.statistics.duplicate_address += 1;
        let now = self.now;
        if self
            .conflict_reported
            .is_none_or(|reported| now >= reported + REPORT_AGAIN)
        {
            self.conflict_reported = Some(now);
            let [a, b, c, d, e, f] = hardware;
            log::warn!(
                "{address} is ours, but {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} claims it, too"
            );
        }
    }
}
