//! What the updater needs of the machine.

use core::fmt;

/// What init is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run a protection domain from one of its images.
    Upgrade {
        /// The protection domain's index in the system status.
        index: u32,
        /// Which image.
        image: u32,
    },
    /// Make an image of the package in the staging region.
    Install {
        /// The protection domain's index in the system status.
        index: u32,
        /// The image's number.
        image: u32,
        /// Bytes of the package, its signature included.
        length: u64,
        /// SHA-256 of the package without its signature.
        hash: [u8; 32],
    },
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// There is no such protection domain or image.
    Unknown,
    /// Another one is under way.
    Busy,
    /// The bytes that init has read have another hash.
    OtherHash,
    /// Init does not accept the package.
    Malformed,
    /// The program does not fit.
    TooLarge,
    /// The new image has faulted, and the one before runs again.
    Faulted,
    /// The new image made no progress, and the one before runs again.
    Hung,
    /// The new image was not ready in time, and the one before runs again.
    NotReady,
    /// Init says something that is not known here.
    Other(u64),
}

impl Outcome {
    /// What init's word means.
    pub fn from_word(word: u64) -> Self {
        match word {
            0 => Outcome::Done,
            1 => Outcome::Unknown,
            2 => Outcome::Busy,
            3 => Outcome::OtherHash,
            4 => Outcome::Malformed,
            5 => Outcome::TooLarge,
            6 => Outcome::Faulted,
            7 => Outcome::Hung,
            8 => Outcome::NotReady,
            word => Outcome::Other(word),
        }
    }

    /// Whether the image before runs again.
    pub fn is_rolled_back(self) -> bool {
        matches!(self, Outcome::Faulted | Outcome::Hung | Outcome::NotReady)
    }
}

impl fmt::Display for Outcome {
    /// The end of a sentence that says why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Done => "it was done",
            Outcome::Unknown => "init knows no such protection domain or image",
            Outcome::Busy => "another upgrade is under way",
            Outcome::OtherHash => "init has read other bytes than were verified",
            Outcome::Malformed => "init does not accept the package",
            Outcome::TooLarge => "the program does not fit",
            Outcome::Faulted => "the new image faulted",
            Outcome::Hung => "the new image made no progress",
            Outcome::NotReady => "the new image was not ready in time",
            Outcome::Other(word) => return write!(f, "init says {word}, which is not known here"),
        })
    }
}

/// The machine, as far as the updater acts on it.
pub trait Machine {
    /// The staging region, which init can read and nobody else can write.
    fn staging(&mut self) -> &mut [u8];
    /// Gives an order. The one before has been answered.
    fn order(&mut self, order: Order);
    /// What became of the last order; `None` while there is no answer. If there never was an order,
    /// [`Outcome::Done`].
    fn outcome(&mut self) -> Option<Outcome>;
    /// The highest serial number that a package for the target had; it outlives the updater.
    fn serial(&self, target: usize) -> u64;
    /// Remembers it.
    fn set_serial(&mut self, target: usize, serial: u64);
}
