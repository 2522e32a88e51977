//! Whether a package may be installed.

use alloc::string::{String, ToString};
use core::fmt;

use segue_upgrade_package::{Error, Package, verified};
use sha2::{Digest, Sha256};

use crate::config::Target;

/// A package that may be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What people call the image.
    pub label: String,
    /// Its serial number.
    pub serial: u64,
    /// Bytes of the package without its signature.
    pub length: u64,
    /// SHA-256 of these.
    pub hash: [u8; 32],
}

/// Why a package may not be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no valid signature.
    NotSigned,
    /// It is signed, but makes no sense.
    Malformed(Error),
    /// It is for another protection domain.
    OtherDomain(String),
    /// It was built for other maps, channels or variables.
    OtherSystem,
    /// Its serial number is not higher than the last one: its own, the last one.
    Old(u64, u64),
}

impl Refusal {
    /// The status code that says so.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::NotSigned => 403,
            Refusal::Malformed(_) | Refusal::OtherDomain(_) | Refusal::OtherSystem => 422,
            Refusal::Old(..) => 409,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotSigned => {
                write!(f, "the package is not signed with the key of this machine")
            }
            Refusal::Malformed(error) => write!(f, "{error}"),
            Refusal::OtherDomain(name) => write!(f, "the package is for \"{name}\""),
            Refusal::OtherSystem => write!(
                f,
                "the package was built for another system, with other maps, channels or variables"
            ),
            Refusal::Old(serial, last) => write!(
                f,
                "the package has the serial number {serial}, but a higher one than {last} is needed"
            ),
        }
    }
}

/// Checks a package as it was received, for `target`, if packages up to the serial number `last` are
/// refused.
///
/// # Errors
///
/// Why it may not be installed.
pub fn check(
    package: &[u8],
    target: &Target,
    public_key: &[u8; 32],
    last: u64,
) -> Result<Accepted, Refusal> {
    let signed = verified(package, public_key).map_err(|_| Refusal::NotSigned)?;
    let header = Package::read(signed, target.place)
        .map_err(Refusal::Malformed)?
        .header;
    if header.domain() != target.name() {
        return Err(Refusal::OtherDomain(header.domain().to_string()));
    }
    if header.built_for != target.built_for {
        return Err(Refusal::OtherSystem);
    }
    if header.serial <= last {
        return Err(Refusal::Old(header.serial, last));
    }
    Ok(Accepted {
        label: header.label().to_string(),
        serial: header.serial,
        length: signed.len() as u64,
        hash: Sha256::digest(signed).into(),
    })
}
