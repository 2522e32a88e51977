//! An attribute's value with its place, and the ways to read it.

use std::ops::RangeInclusive;

use roxmltree::Node;

use crate::diagnostics::Diagnostics;
use crate::number;

/// An attribute's value.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    /// The attribute's name.
    pub(crate) name: &'a str,
    /// The value, as written.
    pub(crate) text: &'a str,
    /// Where the value starts.
    pub(crate) at: usize,
}

/// The attribute `name`, if it is there.
pub(crate) fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<Value<'a>> {
    let attribute = node.attribute_node(name)?;
    Some(Value {
        name: attribute.name(),
        text: attribute.value(),
        at: attribute.range_value().start,
    })
}

/// The elements called `name` inside `node`.
pub(crate) fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children()
        .filter(move |child| child.is_element() && child.tag_name().name() == name)
}

impl<'a> Value<'a> {
    fn wrong(&self, diagnostics: &mut Diagnostics<'_>, what: &str) {
        diagnostics.error(self.at, format!("{}=\"{}\" {what}", self.name, self.text));
    }

    /// The value as a number.
    pub(crate) fn number(&self, diagnostics: &mut Diagnostics<'_>) -> Option<u64> {
        let read = number::number(self.text);
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not a number: write decimal digits, or 0x and hexadecimal ones",
            );
        }
        read
    }

    /// The value as a number of bytes.
    pub(crate) fn size(&self, diagnostics: &mut Diagnostics<'_>) -> Option<u64> {
        let read = number::size(self.text);
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not a size: write a number of bytes, or one followed by K, M or G",
            );
        }
        read
    }

    /// The value as a number out of `range`.
    pub(crate) fn within<T>(
        &self,
        range: RangeInclusive<T>,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let read = self.number(diagnostics)?;
        let fits = T::try_from(read).ok().filter(|read| range.contains(read));
        if fits.is_none() {
            let (first, last) = (range.start(), range.end());
            self.wrong(
                diagnostics,
                &match first == last {
                    true => format!("is out of range: write {first}"),
                    false => format!("is out of range: write a number from {first} to {last}"),
                },
            );
        }
        fits
    }

    /// The value as one of the `words`; the index of the word.
    pub(crate) fn word(&self, words: &[&str], diagnostics: &mut Diagnostics<'_>) -> Option<usize> {
        let read = words.iter().position(|word| *word == self.text);
        if read.is_none() {
            self.wrong(
                diagnostics,
                &format!("is not known: write {}", words.join(" or ")),
            );
        }
        read
    }

    /// The value as `true` or `false`.
    pub(crate) fn boolean(&self, diagnostics: &mut Diagnostics<'_>) -> Option<bool> {
        self.word(&["false", "true"], diagnostics)
            .map(|index| index == 1)
    }

    /// The value as rights to memory: whether writing is among them.
    pub(crate) fn writable(&self, diagnostics: &mut Diagnostics<'_>) -> Option<bool> {
        match self.text {
            "r" | "rx" => Some(false),
            "rw" | "rwx" => Some(true),
            "w" | "wx" | "x" => {
                self.wrong(
                    diagnostics,
                    "is not possible, since who may do that may also read: write r or rw",
                );
                None
            }
            _ => {
                self.wrong(diagnostics, "is not known: write r or rw");
                None
            }
        }
    }

    /// The value as a MAC address that a function may have.
    pub(crate) fn mac(&self, diagnostics: &mut Diagnostics<'_>) -> Option<[u8; 6]> {
        let Some(mac) = number::mac(self.text) else {
            self.wrong(
                diagnostics,
                "is not a MAC address: write it like 52:54:00:12:34:56",
            );
            return None;
        };
        if mac[0] & 1 != 0 || mac == [0; 6] {
            self.wrong(
                diagnostics,
                "is not the MAC address of one station: its first byte must be even, and not all may be zero",
            );
            return None;
        }
        Some(mac)
    }

    /// The value as an IPv4 address.
    pub(crate) fn ipv4(&self, diagnostics: &mut Diagnostics<'_>) -> Option<[u8; 4]> {
        let read = number::ipv4(self.text);
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not an IPv4 address: write it like 10.0.2.15",
            );
        }
        read
    }

    /// The value as an IPv4 address with the length of its network's prefix.
    pub(crate) fn ipv4_network(&self, diagnostics: &mut Diagnostics<'_>) -> Option<([u8; 4], u8)> {
        let read = self.text.split_once('/').and_then(|(address, length)| {
            let length = number::number(length).filter(|length| (1..=30).contains(length))?;
            Some((number::ipv4(address)?, u8::try_from(length).ok()?))
        });
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not an IPv4 address with its network: write it like 10.0.2.15/24",
            );
        }
        read
    }

    /// The value as an IPv6 address.
    pub(crate) fn ipv6(&self, diagnostics: &mut Diagnostics<'_>) -> Option<[u8; 16]> {
        let read = number::ipv6(self.text);
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not an IPv6 address: write it like fd00:5e60::2",
            );
        }
        read
    }

    /// The value as an IPv6 address with the length of its network's prefix.
    pub(crate) fn ipv6_network(&self, diagnostics: &mut Diagnostics<'_>) -> Option<([u8; 16], u8)> {
        let read = self.text.split_once('/').and_then(|(address, length)| {
            let length = number::number(length).filter(|length| (1..=126).contains(length))?;
            Some((number::ipv6(address)?, u8::try_from(length).ok()?))
        });
        if read.is_none() {
            self.wrong(
                diagnostics,
                "is not an IPv6 address with its network: write it like fd00:5e60::15/64",
            );
        }
        read
    }
}
