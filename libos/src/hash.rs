//! Connections by their names: a hash table with a secret seed.

use crate::address::FlowKey;
use core::hash::{BuildHasher, Hash, Hasher};
use hashbrown::HashMap;

/// Two secret numbers, unpredictable to peers.
#[derive(Clone, Copy)]
pub struct Secret(pub [u64; 2]);

/// One multiplication to 128 bits, folded: every bit of the result depends on
/// all bits of both factors.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Secret {
    /// A number to draw further ones from.
    pub fn derive(&self, purpose: u64) -> u64 {
        mix(self.0[0] ^ purpose, self.0[1] | 1) ^ mix(self.0[1] ^ !purpose, self.0[0] | 1)
    }
}

/// Builds [`FlowHasher`]s.
#[derive(Clone, Copy)]
pub struct Seed(pub Secret);

/// Hashes a [`FlowKey`], and nothing else.
pub struct FlowHasher {
    secret: Secret,
    hash: u64,
}

impl BuildHasher for Seed {
    type Hasher = FlowHasher;
    #[inline]
    fn build_hasher(&self) -> FlowHasher {
        FlowHasher {
            secret: self.0,
            hash: 0,
        }
    }
}

impl Hasher for FlowHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.hash = mix(
            self.hash ^ word ^ self.secret.0[0],
            0x9e37_79b9_7f4a_7c15 ^ self.secret.0[1],
        );
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [remote, local] = [self.remote.halves(), self.local.halves()];
        if self.is_ipv4() {
            state.write_u64(remote[1] << 32 | local[1] & 0xffff_ffff);
        } else {
            for half in [remote, local].as_flattened() {
                state.write_u64(*half);
            }
        }
        state.write_u64(u64::from(self.remote_port) << 16 | u64::from(self.local_port));
    }
}

/// A map from connections' names.
pub type FlowMap<V> = HashMap<FlowKey, V, Seed>;
