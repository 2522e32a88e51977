//! The kernel's configuration: what goes into its `autoconf.h`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// One of the kernels that Segue builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Prints on COM1 what it sees go wrong; has the debug system calls.
    Debug,
    /// Silent, and without the debug system calls.
    Release,
    /// As shipped: without Segue's fixes. Only for the tests that show the holes.
    Plain,
}

impl Variant {
    /// Every variant there is.
    pub const ALL: [Self; 3] = [Self::Debug, Self::Release, Self::Plain];

    /// Whether the kernel prints and has the debug system calls.
    pub fn is_debug(self) -> bool {
        self != Self::Release
    }

    /// Whether Segue's fixes are applied.
    pub fn is_fixed(self) -> bool {
        self != Self::Plain
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Debug => "debug",
            Self::Release => "release",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|variant| variant.to_string() == name)
            .ok_or_else(|| {
                Error::new(format!(
                    "there is no kernel variant `{name}`; use debug, release or plain"
                ))
            })
    }
}

/// What every variant is configured with.
const COMMON: &[(&str, &str)] = &[
    ("AUTOCONF_INCLUDED", ""),
    // The machine: one x86_64 processor, local APIC at its usual address, one IOAPIC, VT-d.
    // "Generic" because no particular microarchitecture is assumed.
    ("CONFIG_ARCH_X86", "1"),
    ("CONFIG_ARCH_X86_64", "1"),
    ("CONFIG_ARCH_X86_GENERIC", "1"),
    ("CONFIG_PLAT_PC99", "1"),
    ("CONFIG_WORD_SIZE", "64"),
    ("CONFIG_MAX_NUM_NODES", "1"),
    ("CONFIG_CACHE_LN_SZ", "64"),
    ("CONFIG_XAPIC", "1"),
    ("CONFIG_IRQ_IOAPIC", "1"),
    ("CONFIG_MAX_NUM_IOAPIC", "1"),
    ("CONFIG_IOMMU", "1"),
    ("CONFIG_MAX_RMRR_ENTRIES", "32"),
    ("CONFIG_HUGE_PAGE", "1"),
    ("CONFIG_SYSCALL", "1"),
    // SSE state only; AVX in a protection domain is an invalid opcode.
    ("CONFIG_HAVE_FPU", "1"),
    ("CONFIG_FXSAVE", "1"),
    ("CONFIG_XSAVE_SIZE", "512"),
    ("CONFIG_FPU_MAX_RESTORES_SINCE_SWITCH", "64"),
    // A slice of 2 ms: what a spinning thread can cost another of its priority.
    ("CONFIG_TIMER_TICK_MS", "2"),
    ("CONFIG_TIME_SLICE", "1"),
    ("CONFIG_NUM_DOMAINS", "1"),
    ("CONFIG_NUM_PRIORITIES", "256"),
    ("CONFIG_FASTPATH", "1"),
    ("CONFIG_KERNEL_STACK_BITS", "12"),
    ("CONFIG_RETYPE_FAN_OUT_LIMIT", "256"),
    ("CONFIG_MAX_NUM_WORK_UNITS_PER_PREEMPTION", "100"),
    // Zero memory 4 KiB at a time between preemption points: fewer entries than with the
    // default of 256 bytes, and still short.
    ("CONFIG_RESET_CHUNK_BITS", "12"),
    ("CONFIG_MAX_NUM_BOOTINFO_UNTYPED_CAPS", "230"),
    // One slot a page of the boot image, and everything `init` makes: 2^17 slots are 4 MiB.
    ("CONFIG_ROOT_CNODE_SIZE_BITS", "17"),
];

/// The lines of `autoconf.h` for `variant`, as (name, value).
pub fn configuration(variant: Variant) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&str, &str)> = COMMON.to_vec();
    lines.push(if variant.is_fixed() {
        // Hole H5: without the instructions user code cannot change a segment base behind the
        // kernel's back (fixes/h5-segment-bases.patch).
        ("CONFIG_FSGSBASE_MSR", "1")
    } else {
        ("CONFIG_FSGSBASE_INST", "1")
    });
    if variant.is_debug() {
        lines.extend([
            ("CONFIG_DEBUG_BUILD", "1"),
            ("CONFIG_PRINTING", "1"),
            // The makefile's own value: another one would be a redefinition.
            ("CONFIG_USER_STACK_TRACE_LENGTH", "1"),
        ]);
    }
    lines
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

/// The text of `autoconf.h` for `variant`.
pub(crate) fn header(variant: Variant) -> String {
    let mut text = format!("/* Segue's kernel configuration: {variant} */\n");
    for (name, value) in configuration(variant) {
        text.push_str(format!("#define {name} {value}").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_named_as_they_print() {
        for variant in Variant::ALL {
            assert_eq!(variant.to_string().parse(), Ok(variant));
        }
        let error = "fast".parse::<Variant>().unwrap_err().to_string();
        assert!(error.contains("`fast`") && error.contains("release"));
    }

    #[test]
    fn release_is_silent() {
        let header = header(Variant::Release);
        assert!(!header.contains("DEBUG") && !header.contains("PRINTING"));
        assert!(header.contains("#define CONFIG_HUGE_PAGE 1\n"));
    }

    #[test]
    fn no_option_is_given_twice() {
        for variant in Variant::ALL {
            let mut names: Vec<_> = configuration(variant)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
