//! What the image builder tells programs about fault injection.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most protection domains in a system.
pub const MAXIMUM_DOMAINS: usize = 63;

/// Longest name, in bytes.
pub const NAME_SIZE: usize = 64;

/// What each program is told: the value of its symbol `fault_injection`. All 0 without
/// `<fault_injection/>`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Injection {
    /// Address of the orders of all protection domains.
    pub orders: u64,
    /// Its place among them.
    pub place: u64,
    /// Address of its own page.
    pub page: u64,
}

impl Injection {
    /// No fault can be ordered.
    pub const NONE: Self = Self {
        orders: 0,
        place: 0,
        page: 0,
    };
}

/// A protection domain in which the console can order faults.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FaultyDomain {
    /// Its name, padded with zeros.
    pub name: [u8; NAME_SIZE],
    /// Address of its page in the console.
    pub page: u64,
}

impl FaultyDomain {
    /// None.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        page: 0,
    };

    /// The one called `name` (cut to [`NAME_SIZE`] bytes).
    pub fn new(name: &str, page: u64) -> Self {
        let mut domain = Self {
            page,
            ..Self::EMPTY
        };
        let bytes = name.as_bytes();
        let count = bytes.len().min(NAME_SIZE);
        domain.name[..count].copy_from_slice(&bytes[..count]);
        domain
    }

    /// The name as text; `?` if it is not UTF-8.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0);
        core::str::from_utf8(&self.name[..length.unwrap_or(NAME_SIZE)]).unwrap_or("?")
    }
}

/// What the console is told: the value of its symbol `faulty_domains`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FaultTable {
    /// Address of the orders of all protection domains, 0 without `<fault_injection/>`.
    pub orders: u64,
    /// Number of entries that count.
    pub count: u64,
    /// The protection domains, by their places.
    pub domains: [FaultyDomain; MAXIMUM_DOMAINS],
}

impl FaultTable {
    /// Nobody.
    pub const EMPTY: Self = Self {
        orders: 0,
        count: 0,
        domains: [FaultyDomain::EMPTY; MAXIMUM_DOMAINS],
    };

    /// The entries that count.
    pub fn domains(&self) -> &[FaultyDomain] {
        let count = usize::try_from(self.count).unwrap_or(MAXIMUM_DOMAINS);
        &self.domains[..count.min(MAXIMUM_DOMAINS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_bounded_whatever_it_says() {
        let mut table = FaultTable::EMPTY;
        table.count = u64::MAX;
        table.domains[0] = FaultyDomain::new("netserver", 0x1000);
        assert_eq!(table.domains().len(), MAXIMUM_DOMAINS);
        assert_eq!(table.domains()[0].name(), "netserver");
        assert_eq!(
            FaultyDomain::new(&"a".repeat(70), 0).name().len(),
            NAME_SIZE
        );
    }
}
