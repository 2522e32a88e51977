//! A cable that loses, doubles and reorders frames.

use std::collections::VecDeque;

use crate::random::Random;

/// What happened to the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that came in.
    pub frames: u64,
    /// Frames that were lost.
    pub dropped: u64,
    /// Frames that were passed on twice.
    pub duplicated: u64,
    /// Frames that were overtaken by later ones.
    pub reordered: u64,
}

/// How one direction treats its frames.
#[derive(Clone, Debug)]
pub struct Impairment {
    random: Random,
    per_mille: u32,
    /// A frame that waits to be overtaken, and by how many more.
    held: Option<(Vec<u8>, u32)>,
    counts: Counts,
}

impl Impairment {
    /// Each of the three things happens to `per_mille` of a thousand frames.
    pub fn new(seed: u64, per_mille: u32) -> Self {
        Self {
            random: Random::new(seed),
            per_mille,
            held: None,
            counts: Counts::default(),
        }
    }

    /// Passes a frame on: none, one or more frames go to `output`.
    pub fn pass(&mut self, frame: Vec<u8>, output: &mut VecDeque<Vec<u8>>) {
        self.counts.frames += 1;
        if self.random.per_mille(self.per_mille) {
            self.counts.dropped += 1;
            return;
        }
        if self.random.per_mille(self.per_mille) {
            self.counts.duplicated += 1;
            output.push_back(frame.clone());
        }
        if self.held.is_none() && self.random.per_mille(self.per_mille) {
            self.held = Some((frame, 1 + self.random.below(3) as u32));
            return;
        }
        output.push_back(frame);
        if let Some((held, left)) = self.held.take() {
            if left > 1 {
                self.held = Some((held, left - 1));
            } else {
                self.counts.reordered += 1;
                output.push_back(held);
            }
        }
    }

    /// Lets a held frame go when nothing comes that could overtake it: a delay, not a loss.
    pub fn release(&mut self, output: &mut VecDeque<Vec<u8>>) {
        output.extend(self.held.take().map(|(frame, _)| frame));
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_accounted_for() {
        let mut impairment = Impairment::new(7, 10);
        let mut output = VecDeque::new();
        for number in 0..20_000_u32 {
            impairment.pass(number.to_be_bytes().to_vec(), &mut output);
        }
        impairment.release(&mut output);
        let counts = impairment.counts();
        assert_eq!(counts.frames, 20_000);
        for count in [counts.dropped, counts.duplicated, counts.reordered] {
            assert!((100..300).contains(&count), "{counts:?}");
        }
        let expected = counts.frames - counts.dropped + counts.duplicated;
        assert_eq!(output.len() as u64, expected);
        assert!(!output.iter().is_sorted());
    }

    #[test]
    fn a_sound_cable_changes_nothing() {
        let mut impairment = Impairment::new(7, 0);
        let mut output = VecDeque::new();
        for number in 0..1000_u32 {
            impairment.pass(number.to_be_bytes().to_vec(), &mut output);
        }
        assert_eq!(output.len(), 1000);
        assert!(output.iter().is_sorted());
    }
}
