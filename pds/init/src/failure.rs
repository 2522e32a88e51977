//! Why the system cannot start, as the end of a sentence.

use core::fmt;

use segue_system_image::Error as PayloadError;

/// Why the system cannot start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// The tables in the boot image are not usable.
    Payload(PayloadError),
    /// A program's pages are not what the builder wrote.
    Program { domain: &'static str },
    /// IO address spaces are described, but there is no IOMMU.
    NoIommu { space: &'static str },
    /// Too little memory: bytes needed, bytes there, and the largest piece that
    /// must be in one.
    Memory {
        needed: u64,
        available: u64,
        largest: u64,
    },
    /// Too few capability slots.
    Slots { needed: u64, available: u64 },
    /// Device memory that is not there.
    Device { region: &'static str, address: u64 },
    /// The kernel refused something that should work.
    Kernel {
        doing: &'static str,
        name: &'static str,
        error: sel4::Error,
    },
    /// The boot image contradicts itself.
    Inconsistent(&'static str),
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        Failure::Payload(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Payload(error) => write!(f, "{error}; build the image again"),
            Failure::Program { domain } => write!(
                f,
                "the boot image is damaged: the program of protection domain {domain} does not \
                 have the hash it was written with; build the image again"
            ),
            Failure::NoIommu { space } => write!(
                f,
                "IO address space {space} needs an IOMMU (VT-d) to confine its device, and this \
                 machine has none that the kernel can use; switch it on in the firmware, or start \
                 QEMU with -device intel-iommu"
            ),
            Failure::Memory {
                needed,
                available,
                largest,
            } if available >= needed => write!(
                f,
                "too little memory in one piece: the system needs {}.{} MiB in pieces of up to {} \
                 KiB besides kernel and boot image, and of the {}.{} MiB that this machine has \
                 too little hangs together",
                needed >> 20,
                tenths(*needed),
                largest >> 10,
                available >> 20,
                tenths(*available)
            ),
            Failure::Memory {
                needed, available, ..
            } => write!(
                f,
                "too little memory: the system needs {}.{} MiB besides kernel and boot image, and \
                 this machine has {}.{} MiB",
                needed >> 20,
                tenths(*needed),
                available >> 20,
                tenths(*available)
            ),
            Failure::Slots { needed, available } => write!(
                f,
                "too few capability slots: the system needs {needed}, init has {available} left"
            ),
            Failure::Device { region, address } => write!(
                f,
                "memory region {region} needs device memory at physical address {address:#x}, \
                 which this machine does not have there or another region has taken"
            ),
            Failure::Kernel { doing, name, error } => {
                write!(f, "{doing} ({name}): the kernel says that {error}")
            }
            Failure::Inconsistent(what) => {
                write!(
                    f,
                    "the boot image contradicts itself: {what}; build the image again"
                )
            }
        }
    }
}

fn tenths(bytes: u64) -> u64 {
    ((bytes & ((1 << 20) - 1)) * 10) >> 20
}

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    /// `doing` names the step, `name` what it was done to.
    fn doing(self, doing: &'static str, name: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, sel4::Error> {
    fn doing(self, doing: &'static str, name: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Kernel { doing, name, error })
    }
}
