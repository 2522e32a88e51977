//! Doing one thing without end.

use segue_forgeries::{Frame, Parties};

use crate::link::Link;

/// What is done without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Frames that may be sent or are dropped, as fast as they are taken.
    Frames,
    /// Notifications with nothing behind them.
    Notifications,
}

/// How often in a turn.
const TURN: usize = 32;

impl Flood {
    /// The flood of this name; its frame is made in `frame`.
    ///
    /// - `large`: honest TCP segments to be cut, of the greatest length
    /// - `small`: honest datagrams of the least length
    /// - `forged`: datagrams from another's port
    /// - `broadcast`: honest datagrams to everybody
    /// - `inside`: attempts to connect to a closed port of the own address
    /// - `neighbour`: attempts to connect to the other application
    /// - `stall`: the same; the other application's answers fill its receive ring
    /// - `notifications`
    pub fn new(name: &str, parties: &Parties, frame: &mut Frame) -> Option<Self> {
        match name {
            "large" => segue_forgeries::flood::large(parties, frame),
            "small" => segue_forgeries::flood::small(parties, frame),
            "forged" => segue_forgeries::flood::forged(parties, frame),
            "broadcast" => segue_forgeries::flood::broadcast(parties, frame),
            "inside" => segue_forgeries::flood::connect(parties, frame, 4711),
            "neighbour" | "stall" => segue_forgeries::flood::connect(parties, frame, crate::HTTP),
            "notifications" => return Some(Self::Notifications),
            _ => return None,
        }
        Some(Self::Frames)
    }

    /// A turn of it.
    pub fn once(self, link: &mut Link, frame: &Frame) {
        for _ in 0..TURN {
            match self {
                // What does not fit now is tried again in the next turn.
                Self::Frames => {
                    if !link.offer(frame) {
                        break;
                    }
                }
                Self::Notifications => link.notify(),
            }
        }
        link.publish();
    }
}
