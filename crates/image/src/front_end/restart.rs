//! Which protection domains are started again after a fault, and what counts as hanging.

use std::ops::RangeInclusive;

use roxmltree::Node;
use segue_system_image::format::LONGEST_HEARTBEAT;

use super::Draft;
use super::value::attribute;
use crate::model::Restart;

/// Restarts in a row, unless the description says how many.
const DEFAULT_LIMIT: u32 = 5;
const LIMITS: RangeInclusive<u32> = 1..=1_000_000;
/// Milliseconds until the second in a row, unless the description says how many.
const DEFAULT_BACKOFF: u32 = 10;
const BACKOFFS: RangeInclusive<u32> = 0..=60_000;
/// Milliseconds without progress. `init` looks four times in each such span.
const HEARTBEATS: RangeInclusive<u32> = 20..=LONGEST_HEARTBEAT;

const POLICIES: [&str; 3] = ["never", "on_fault", "always"];

impl Draft<'_, '_> {
    /// The policy that a protection domain states.
    pub(super) fn read_restart(&mut self, node: Node<'_, '_>) -> Option<Restart> {
        let policy = attribute(node, "restart")
            .and_then(|value| value.word(&POLICIES, &mut self.diagnostics));
        if !matches!(policy, Some(1 | 2)) {
            for name in ["restart_limit", "restart_backoff_ms"] {
                if let Some(value) = attribute(node, name) {
                    self.diagnostics.error(
                        value.at,
                        format!("{name} means nothing without restart=\"on_fault\": remove it, or add that"),
                    );
                }
            }
            return None;
        }
        let mut number = |name, range, default| match attribute(node, name) {
            Some(value) => value.within(range, &mut self.diagnostics),
            None => Some(default),
        };
        Some(Restart {
            limit: number("restart_limit", LIMITS, DEFAULT_LIMIT)?,
            backoff: number("restart_backoff_ms", BACKOFFS, DEFAULT_BACKOFF)?,
            always: policy == Some(2),
        })
    }

    /// Milliseconds without progress after which a protection domain counts as hanging.
    pub(super) fn read_heartbeat(&mut self, node: Node<'_, '_>) -> u32 {
        attribute(node, "heartbeat_ms")
            .and_then(|value| value.within(HEARTBEATS, &mut self.diagnostics))
            .unwrap_or(0)
    }
}
