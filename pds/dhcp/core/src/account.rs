//! What the port map must know of the lease, whatever has become of the port map meanwhile.

use crate::Lease;

/// The lease, if there is one. Times are microseconds since any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// `None` until this client knows: a predecessor may have told of a lease that still holds.
    known: Option<Option<(Lease, u64)>>,
}

impl Account {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self { known: None }
    }

    /// The lease that there is from now on. Returns the one before.
    pub fn set(&mut self, lease: Option<Lease>, now: u64) -> Option<Lease> {
        let end = |lease: Lease| now.saturating_add(u64::from(lease.seconds) * 1_000_000);
        let before = self.known.replace(lease.map(|lease| (lease, end(lease))));
        before.flatten().map(|(lease, _)| lease)
    }

    /// What the port map is to be told, given the address that it knows: the lease for the time
    /// that is left of it, or that there is none. `None` if it is right, or if nothing is known.
    pub fn correction(&self, address: Option<[u8; 4]>, now: u64) -> Option<Option<Lease>> {
        let lease = self.now(now)?;
        (lease.map(|lease| lease.address) != address).then_some(lease)
    }

    /// The lease for the time that is left of it; `None` if nothing is known.
    fn now(&self, now: u64) -> Option<Option<Lease>> {
        let known = self.known?;
        Some(known.and_then(|(lease, end)| {
            let seconds = u32::try_from(end.saturating_sub(now) / 1_000_000).ok()?;
            (seconds > 0).then_some(Lease { seconds, ..lease })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const LEASE: Lease = Lease {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        router: None,
        seconds: 60,
        server: [10, 0, 2, 2],
    };

    #[test]
    fn a_port_map_that_knows_something_else_is_corrected() {
        let mut account = Account::new();
        account.set(Some(LEASE), SECOND);
        assert_eq!(account.correction(Some(LEASE.address), 9 * SECOND), None);
        let left = Lease {
            seconds: 52,
            ..LEASE
        };
        for address in [None, Some([10, 0, 2, 41])] {
            let correction = account.correction(address, 9 * SECOND);
            assert_eq!(correction, Some(Some(left)));
        }
        // It is over.
        assert_eq!(account.correction(None, 61 * SECOND), None);
        let correction = account.correction(Some(LEASE.address), 61 * SECOND);
        assert_eq!(correction, Some(None));
        assert_eq!(account.set(None, 62 * SECOND), Some(LEASE));
        assert_eq!(account.correction(None, 62 * SECOND), None);
    }

    #[test]
    fn what_a_predecessor_has_told_stays_until_more_is_known() {
        let account = Account::new();
        assert_eq!(account.correction(Some(LEASE.address), SECOND), None);
        assert_eq!(account.correction(None, SECOND), None);
    }
}
