//! Which addresses are whose, to find those that two have.

use crate::diagnostics::Diagnostics;
use crate::number::{show_ipv4, show_ipv6, show_mac};
use segue_frame_channel::config::Addresses;

/// An address as a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Mac(u64),
    Ipv4(u32),
    Ipv6(u128),
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Function,
    /// Of an application: others may share it, which is checked elsewhere.
    Station,
    Pool,
    /// Of a router, which many may name.
    Router,
}

struct Claim {
    role: Role,
    what: String,
    first: Number,
    count: u16,
    at: usize,
}

/// All addresses of a system.
#[derive(Default)]
pub(super) struct Claims {
    list: Vec<Claim>,
}

impl Number {
    pub(super) fn mac([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Number::Mac(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    pub(super) fn ipv4(address: [u8; 4]) -> Self {
        Number::Ipv4(u32::from_be_bytes(address))
    }

    pub(super) fn ipv6(address: [u8; 16]) -> Self {
        Number::Ipv6(u128::from_be_bytes(address))
    }

    /// Its sort, and its value.
    fn parts(self) -> (u8, u128) {
        match self {
            Number::Mac(number) => (0, number.into()),
            Number::Ipv4(number) => (1, number.into()),
            Number::Ipv6(number) => (2, number),
        }
    }

    fn show(self) -> String {
        match self {
            Number::Mac(number) => {
                let [_, _, mac @ ..] = number.to_be_bytes();
                show_mac(mac)
            }
            Number::Ipv4(number) => show_ipv4(number.to_be_bytes()),
            Number::Ipv6(number) => show_ipv6(number.to_be_bytes()),
        }
    }
}

impl Claims {
    /// Notes that `what` has `count` addresses from `first` on. All zeroes are none.
    pub(super) fn add(&mut self, role: Role, what: &str, first: Number, count: u16, at: usize) {
        // An application with the address of its server's function shares it.
        let shares = |claim: &Claim| {
            let alike = claim.role == role && matches!(role, Role::Station | Role::Router);
            let served = claim.role == Role::Function && role == Role::Station;
            claim.first == first && (alike || served)
        };
        if first.parts().1 != 0 && !self.list.iter().any(shares) {
            self.list.push(Claim {
                role,
                what: what.into(),
                first,
                count,
                at,
            });
        }
    }

    /// Notes the routers of `whose`.
    pub(super) fn add_gateways(
        &mut self,
        whose: &str,
        addresses: &Addresses,
        ipv4_at: usize,
        ipv6_at: usize,
    ) {
        let what = format!("the gateway of {whose}");
        let ipv4 = Number::ipv4(addresses.gateway);
        self.add(Role::Router, &what, ipv4, 1, ipv4_at);
        let ipv6 = Number::ipv6(addresses.ipv6_gateway);
        self.add(Role::Router, &what, ipv6, 1, ipv6_at);
    }

    /// Reports each address that two have.
    pub(super) fn report(&self, diagnostics: &mut Diagnostics<'_>) {
        for (index, one) in self.list.iter().enumerate() {
            for other in &self.list[..index] {
                if one.role == Role::Function && other.role == Role::Function {
                    // Reported where they are read.
                    continue;
                }
                let Some(common) = common(one, other) else {
                    continue;
                };
                let (later, earlier) = match one.at < other.at {
                    true => (other, one),
                    false => (one, other),
                };
                let line = diagnostics.line(earlier.at);
                let message = format!(
                    "{} and {} (line {line}) both have {}: move one of them",
                    later.what,
                    earlier.what,
                    common.show()
                );
                diagnostics.error(later.at, message);
            }
        }
    }
}

/// The first address that both have.
fn common(one: &Claim, other: &Claim) -> Option<Number> {
    let ((sort, one_first), (other_sort, other_first)) = (one.first.parts(), other.first.parts());
    if sort != other_sort {
        return None;
    }
    let (last, other_last) = (
        one_first.saturating_add(u128::from(one.count)),
        other_first.saturating_add(u128::from(other.count)),
    );
    let overlap = one_first < other_last && other_first < last;
    overlap.then_some(match one_first >= other_first {
        true => one.first,
        false => other.first,
    })
}
