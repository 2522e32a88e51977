//! The message information word.

use crate::Word;
use crate::constants::{
    seL4_MessageInfo_capsUnwrapped_BITS, seL4_MessageInfo_capsUnwrapped_SHIFT,
    seL4_MessageInfo_extraCaps_BITS, seL4_MessageInfo_extraCaps_SHIFT, seL4_MessageInfo_label_BITS,
    seL4_MessageInfo_label_SHIFT, seL4_MessageInfo_length_BITS, seL4_MessageInfo_length_SHIFT,
};

/// Label, length and number of capabilities of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageInfo(Word);

impl MessageInfo {
    /// Width of a label, in bits.
    pub const LABEL_BITS: u32 = seL4_MessageInfo_label_BITS;

    /// A message of `length` words and `capabilities` capabilities. What does
    /// not fit its field is cut to the field's width.
    pub const fn new(label: Word, capabilities: usize, length: usize) -> Self {
        Self(
            field(
                label,
                seL4_MessageInfo_label_SHIFT,
                seL4_MessageInfo_label_BITS,
            ) | field(
                capabilities as Word,
                seL4_MessageInfo_extraCaps_SHIFT,
                seL4_MessageInfo_extraCaps_BITS,
            ) | field(
                length as Word,
                seL4_MessageInfo_length_SHIFT,
                seL4_MessageInfo_length_BITS,
            ),
        )
    }

    /// The information from the kernel's word.
    pub const fn from_raw(word: Word) -> Self {
        Self(word)
    }

    /// The kernel's word.
    pub const fn raw(self) -> Word {
        self.0
    }

    /// The label.
    pub const fn label(self) -> Word {
        self.0 >> seL4_MessageInfo_label_SHIFT & mask(seL4_MessageInfo_label_BITS)
    }

    /// Number of words; a sender can claim up to 127 here, of which the kernel
    /// transfers at most 120.
    pub const fn length(self) -> usize {
        (self.0 >> seL4_MessageInfo_length_SHIFT & mask(seL4_MessageInfo_length_BITS)) as usize
    }

    /// Number of capabilities.
    pub const fn capabilities(self) -> usize {
        (self.0 >> seL4_MessageInfo_extraCaps_SHIFT & mask(seL4_MessageInfo_extraCaps_BITS))
            as usize
    }

    /// Which capabilities arrived as badges, one bit each.
    pub const fn unwrapped(self) -> Word {
        self.0 >> seL4_MessageInfo_capsUnwrapped_SHIFT & mask(seL4_MessageInfo_capsUnwrapped_BITS)
    }
}

const fn mask(bits: u32) -> Word {
    (1 << bits) - 1
}

const fn field(value: Word, shift: u32, bits: u32) -> Word {
    (value & mask(bits)) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_keeps_its_fields() {
        let information = MessageInfo::new(0xf_edcb, 2, 120);
        assert_eq!(information.label(), 0xf_edcb);
        assert_eq!(information.capabilities(), 2);
        assert_eq!(information.length(), 120);
        assert_eq!(information.unwrapped(), 0);
        // Positions as the kernel has them: label<<12 | unwrapped<<9 | caps<<7 | length.
        assert_eq!(information.raw(), 0xf_edcb << 12 | 2 << 7 | 120);
    }

    #[test]
    fn a_label_too_wide_does_not_spill() {
        assert_eq!(MessageInfo::new(1 << 20, 0, 1).raw(), 1);
    }
}
