//! Who has signed a package.

use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::parts;

/// The bytes were not signed with the private half of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSigned;

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the package has no valid signature")
    }
}

impl core::error::Error for NotSigned {}

/// The bytes of `package` that its signature is for, if it is valid for `public_key`. That they make
/// sense is not said.
///
/// Keys and signatures that several messages could share are refused.
///
/// # Errors
///
/// The signature is not valid, or there is none.
pub fn verified<'a>(package: &'a [u8], public_key: &[u8; 32]) -> Result<&'a [u8], NotSigned> {
    let (signed, signature) = parts(package).ok_or(NotSigned)?;
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| NotSigned)?;
    key.verify_strict(signed, &Signature::from_bytes(signature))
        .map_err(|_| NotSigned)?;
    Ok(signed)
}

/// Whether anything can be verified with a public key.
pub fn is_usable_key(public_key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| !key.is_weak())
}
