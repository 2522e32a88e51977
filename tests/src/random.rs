//! Reproducible random numbers.

/// A generator of random numbers (SplitMix64): the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    /// Whether something of so many per mille happens.
    pub fn per_mille(&mut self, chance: u32) -> bool {
        self.number() % 1000 < u64::from(chance)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.number().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The seed of this run: `SEGUE_SEED`, or a new one; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEGUE_SEED") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("SEGUE_SEED is not a number: {text}")),
        Err(_) => {
            let time = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |time| time.as_nanos() as u64);
            Random::new(time ^ u64::from(std::process::id())).number() >> 16
        }
    };
    println!("seed {seed}: SEGUE_SEED={seed} repeats this run");
    seed
}
