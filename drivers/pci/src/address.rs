//! Where a function sits: bus, device and function numbers.

use core::fmt;

/// Bus, device and function number in one word, as a device states them in each
/// request it makes (PCI Express Base Specification 2.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequesterId(pub u16);

/// A function's place: bus, device (0..32) and function (0..8).
///
/// Shown as people write it, `00:03.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    requester_id: u16,
}

impl Address {
    /// Names a function, or `None` if `device` or `function` is too large.
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Address> {
        if device >= 32 || function >= 8 {
            return None;
        }
        Some(Address {
            requester_id: (bus as u16) << 8 | (device as u16) << 3 | function as u16,
        })
    }

    /// The bus, 0..255.
    pub const fn bus(self) -> u8 {
        (self.requester_id >> 8) as u8
    }

    /// The device, 0..31.
    pub const fn device(self) -> u8 {
        (self.requester_id >> 3 & 31) as u8
    }

    /// The function, 0..7.
    pub const fn function(self) -> u8 {
        (self.requester_id & 7) as u8
    }

    /// The same place as one word.
    pub const fn requester_id(self) -> RequesterId {
        RequesterId(self.requester_id)
    }
}

impl RequesterId {
    /// The same place as three numbers.
    pub const fn address(self) -> Address {
        Address {
            requester_id: self.0,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:02x}:{:02x}.{}",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

impl fmt::Display for RequesterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_address_reads_as_people_write_it() {
        let address = Address::new(0, 0x13, 2).unwrap();
        assert_eq!(address.to_string(), "00:13.2");
        assert_eq!(address.requester_id(), RequesterId(0x9a));
        assert_eq!(RequesterId(0x9a).address(), address);
        assert_eq!(
            (address.bus(), address.device(), address.function()),
            (0, 0x13, 2)
        );
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Address::new(0, 32, 0).is_none());
        assert!(Address::new(0, 0, 8).is_none());
        assert!(Address::new(255, 31, 7).is_some());
    }
}
