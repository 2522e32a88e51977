//! Channels between protection domains.

use roxmltree::Node;

use super::Draft;
use super::domains::LAST_ID;
use super::value::{attribute, children};
use crate::model::{Channel, ChannelEnd, PdIndex};

impl Draft<'_, '_> {
    pub(super) fn read_channels(&mut self, nodes: &[Node<'_, '_>]) {
        for &node in nodes {
            self.read_channel(node);
        }
    }

    fn read_channel(&mut self, node: Node<'_, '_>) {
        let at = node.range().start;
        let ends: Vec<Node<'_, '_>> = children(node, "end").collect();
        let [first, second] = ends.as_slice() else {
            self.diagnostics.error(
                at,
                format!(
                    "a channel has two ends, this one has {}: write two <end>",
                    ends.len()
                ),
            );
            return;
        };
        let first_end = self.read_end(*first);
        let second_end = self.read_end(*second);
        if let (Some(one), Some(other)) = (attribute(*first, "pd"), attribute(*second, "pd"))
            && one.text == other.text
            && self.domain_names.known.contains_key(one.text)
        {
            self.diagnostics.error(
                other.at,
                format!(
                    "\"{}\" has a channel to itself: name another protection domain",
                    other.text
                ),
            );
            return;
        }
        let (Some(first_end), Some(second_end)) = (first_end, second_end) else {
            return;
        };
        let both = first_end.protected_calls && second_end.protected_calls;
        for (caller, callee, node) in [
            (&first_end, &second_end, *first),
            (&second_end, &first_end, *second),
        ] {
            if caller.protected_calls && !both {
                let at = attribute(node, "pp").map_or(at, |value| value.at);
                self.check_call(caller.pd.0, callee.pd.0, at);
            }
        }
        if both {
            let at = attribute(*second, "pp").map_or(at, |value| value.at);
            self.diagnostics.error(
                at,
                "protected calls go in one direction: remove pp from one end",
            );
        }
        let silent = |end: &ChannelEnd| !end.notify && !end.protected_calls;
        if silent(&first_end) && silent(&second_end) {
            self.diagnostics.warning(
                at,
                "nothing passes this channel: no end may notify or call the other",
            );
        }
        self.system.channels.push(Channel {
            ends: [first_end, second_end],
        });
    }

    fn read_end(&mut self, node: Node<'_, '_>) -> Option<ChannelEnd> {
        let domain = attribute(node, "pd").and_then(|value| self.find_domain(value));
        let flag = |draft: &mut Self, name: &str, default: bool| match attribute(node, name) {
            None => Some(default),
            Some(value) => value.boolean(&mut draft.diagnostics),
        };
        let protected_calls = flag(self, "pp", false);
        let notify = flag(self, "notify", true);
        let number = attribute(node, "id")?;
        let id = match domain {
            Some(domain) => self.claim_id(domain, number)?,
            None => number.within(0..=LAST_ID, &mut self.diagnostics)?,
        };
        let domain = domain?;
        if let Some(symbol) = attribute(node, "setvar_id") {
            self.set_variable(domain, symbol, u64::from(id));
        }
        Some(ChannelEnd {
            pd: PdIndex(domain),
            id,
            protected_calls: protected_calls?,
            notify: notify?,
        })
    }

    /// Reports a protected call that would let the caller block the callee.
    /// Returns whether it is fine.
    pub(super) fn check_call(&mut self, caller: usize, callee: usize, at: usize) -> bool {
        let priority = |domain: usize| self.system.protection_domains[domain].priority;
        let known = self.domains[caller].priority_known && self.domains[callee].priority_known;
        if !known || priority(callee) > priority(caller) {
            return true;
        }
        let message = format!(
            "\"{}\" (priority {}) may not call \"{}\" (priority {}): give \"{}\" a higher priority than \"{}\"",
            self.domain_name(caller),
            priority(caller),
            self.domain_name(callee),
            priority(callee),
            self.domain_name(callee),
            self.domain_name(caller)
        );
        self.diagnostics.error(at, message);
        false
    }

    /// Takes the highest free id of a protection domain for a channel that the
    /// builder adds.
    pub(super) fn generated_id(&mut self, domain: usize, at: usize) -> Option<u8> {
        let free = (0..LAST_ID)
            .rev()
            .find(|id| !self.domains[domain].ids.contains_key(id));
        match free {
            Some(id) => {
                self.domains[domain].ids.insert(id, at);
            }
            None => {
                let message = format!(
                    "all {} channel ids of \"{}\" are taken: remove a channel or an interrupt",
                    LAST_ID + 1,
                    self.domain_name(domain)
                );
                self.diagnostics.error(at, message);
            }
        }
        free
    }
}
