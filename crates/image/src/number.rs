//! Numbers and addresses as people write them in a system description.

use segue_frame_channel::config::Addresses;

use crate::model::PciFunction;

/// Reads a decimal or, after `0x`, hexadecimal number; `_` may separate digits.
pub(crate) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let digits = digits.replace('_', "");
    // `from_str_radix` would take a sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(&digits, radix).ok()
}

/// Reads a size in bytes: a number, or a decimal one followed by K, M or G.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => return number(text),
    };
    if digits.starts_with("0x") {
        return None;
    }
    number(digits)?.checked_mul(unit)
}

/// Reads a MAC address, `52:54:00:12:34:56`.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = hexadecimal_byte(parts.next()?)?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Reads an IPv4 address, `10.0.2.15`.
pub(crate) fn ipv4(text: &str) -> Option<[u8; 4]> {
    text.parse::<std::net::Ipv4Addr>()
        .ok()
        .map(|address| address.octets())
}

/// Reads an IPv6 address, `fd00:5e60::15`.
pub(crate) fn ipv6(text: &str) -> Option<[u8; 16]> {
    text.parse::<std::net::Ipv6Addr>()
        .ok()
        .map(|address| address.octets())
}

/// Reads a PCI function's address, `00:03.0`.
pub(crate) fn pci_function(text: &str) -> Option<PciFunction> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let bus = hexadecimal_byte(bus)?;
    let device = hexadecimal_byte(device).filter(|&device| device < 32)?;
    let function = match function.as_bytes() {
        [digit @ b'0'..=b'7'] => digit - b'0',
        _ => return None,
    };
    Some(PciFunction {
        bus,
        device,
        function,
    })
}

fn hexadecimal_byte(text: &str) -> Option<u8> {
    let two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    two_digits
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
}

/// Exactly `N` bytes, two hexadecimal digits each.
pub fn hexadecimal_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = hexadecimal_byte(&text[2 * at..2 * at + 2])?;
    }
    Some(bytes)
}

/// Bytes as two hexadecimal digits each.
pub fn show_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A MAC address as people write it.
pub(crate) fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An IPv4 address as people write it.
pub(crate) fn show_ipv4(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

/// An IPv6 address as people write it.
pub(crate) fn show_ipv6(address: [u8; 16]) -> String {
    std::net::Ipv6Addr::from(address).to_string()
}

/// A station's IPv4 and IPv6 addresses with their networks; empty if it has none.
pub(crate) fn show_addresses(addresses: &Addresses) -> String {
    let mut parts = Vec::new();
    if addresses.ipv4 != [0; 4] {
        let length = addresses.ipv4_prefix_length;
        parts.push(format!("{}/{length}", show_ipv4(addresses.ipv4)));
    }
    if addresses.ipv6 != [0; 16] {
        let length = addresses.ipv6_prefix_length;
        parts.push(format!("{}/{length}", show_ipv6(addresses.ipv6)));
    }
    parts.join(" and ")
}

/// A size as people write it: `2 MiB`, `12 KiB`, `17 bytes`.
pub(crate) fn show_size(size: u64) -> String {
    match size {
        0 => "0 bytes".into(),
        _ if size.is_multiple_of(1 << 30) => format!("{} GiB", size >> 30),
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        1 => "1 byte".into(),
        _ => format!("{size} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(number("4096"), Some(4096));
        assert_eq!(number("0x1_000"), Some(4096));
        assert_eq!(number("0xffff_ffff_ffff_ffff"), Some(u64::MAX));
        for wrong in [
            "",
            "0x",
            "-1",
            "+1",
            "1 ",
            "12q",
            "0x1_0000_0000_0000_0000",
            "_",
        ] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
        assert_eq!(size("256M"), Some(256 << 20));
        assert_eq!(size("64K"), Some(65536));
        for wrong in ["M", "0x1M", "99999999999999G", "é", ""] {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        assert_eq!(
            mac("52:54:00:5e:60:0A"),
            Some([0x52, 0x54, 0, 0x5e, 0x60, 10])
        );
        for wrong in [
            "",
            "52:54:00:5e:60",
            "52:54:00:5e:60:00:00",
            "52:54:00:5e:60:0",
            "+2:54:00:5e:60:00",
        ] {
            assert_eq!(mac(wrong), None, "{wrong:?}");
        }
        assert_eq!(ipv4("10.0.2.15"), Some([10, 0, 2, 15]));
        assert_eq!(ipv4("10.0.2.256"), None);
        let address = ipv6("fd00:5e60::15").unwrap();
        assert_eq!(address[..5], [0xfd, 0, 0x5e, 0x60, 0]);
        assert_eq!(show_ipv6(address), "fd00:5e60::15");
        for wrong in ["", "10.0.2.15", "fd00:::15", "fe80::1%tap0", "[::1]"] {
            assert_eq!(ipv6(wrong), None, "{wrong:?}");
        }
        let function = pci_function("00:13.2").unwrap();
        assert_eq!(function.to_string(), "00:13.2");
        for wrong in [
            "", "00:20.0", "00:03.8", "0:03.0", "00:03", "00:03.00", "nic.vf0",
        ] {
            assert_eq!(pci_function(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn keys_read_as_they_are_shown() {
        let bytes = [0x00, 0x9a, 0xff];
        assert_eq!(show_hexadecimal(&bytes), "009aff");
        assert_eq!(hexadecimal_bytes("009aff"), Some(bytes));
        assert_eq!(hexadecimal_bytes("009AFF"), Some(bytes));
        for wrong in [
            "", "009af", "009afff", "009afg", "+09aff", "00 9af", "é9aff",
        ] {
            assert_eq!(hexadecimal_bytes::<3>(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_whole_units() {
        assert_eq!(show_size(2 << 20), "2 MiB");
        assert_eq!(show_size(0x1c000), "112 KiB");
        assert_eq!(show_size(17), "17 bytes");
        assert_eq!(
            show_mac([0x52, 0x54, 0, 0x5e, 0x60, 10]),
            "52:54:00:5e:60:0a"
        );
    }
}
