//! Which IPv4 addresses a host can have.

/// Shortest and longest network prefix in bits that a network of hosts has: shorter ones were
/// never given out, longer ones have no room for a second host.
pub const PREFIX_LENGTHS: core::ops::RangeInclusive<u8> = 8..=30;

/// Whether a host can have this address: it is none of "this network", loopback, multicast or
/// reserved (RFC 6890), and in its network neither the first nor the last. A prefix length out of
/// [`PREFIX_LENGTHS`] has no hosts.
pub fn is_host(address: [u8; 4], prefix_length: u8) -> bool {
    if !PREFIX_LENGTHS.contains(&prefix_length) || matches!(address[0], 0 | 127 | 224..) {
        return false;
    }
    let hosts = u32::MAX >> prefix_length;
    let host = u32::from_be_bytes(address) & hosts;
    host != 0 && host != hosts
}

/// Whether a host with this address can reach others through `router`: a different host of the
/// same network.
pub fn is_router(router: [u8; 4], address: [u8; 4], prefix_length: u8) -> bool {
    let hosts = u32::MAX.checked_shr(prefix_length.into()).unwrap_or(0);
    let network = |address| u32::from_be_bytes(address) & !hosts;
    is_host(router, prefix_length) && router != address && network(router) == network(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_hosts() {
        assert!(is_host([10, 0, 2, 15], 24));
        assert!(is_host([10, 0, 2, 0], 16));
        assert!(is_host([192, 168, 1, 1], 30));
        for (address, prefix_length) in [
            ([0, 0, 0, 0], 24),
            ([0, 1, 2, 3], 24),
            ([127, 0, 0, 1], 24),
            ([224, 0, 0, 1], 24),
            ([255, 255, 255, 255], 24),
            ([240, 0, 0, 1], 24),
            ([10, 0, 2, 0], 24),
            ([10, 0, 2, 255], 24),
            ([10, 0, 2, 15], 0),
            ([10, 0, 2, 15], 7),
            ([10, 0, 2, 15], 31),
            ([10, 0, 2, 15], 32),
            ([10, 0, 2, 15], 255),
        ] {
            assert!(
                !is_host(address, prefix_length),
                "{address:?}/{prefix_length}"
            );
        }
    }

    #[test]
    fn a_router_is_another_host_nearby() {
        assert!(is_router([10, 0, 2, 2], [10, 0, 2, 15], 24));
        assert!(!is_router([10, 0, 2, 15], [10, 0, 2, 15], 24));
        assert!(!is_router([10, 0, 3, 2], [10, 0, 2, 15], 24));
        assert!(!is_router([10, 0, 2, 255], [10, 0, 2, 15], 24));
        assert!(!is_router([10, 0, 2, 2], [10, 0, 2, 15], 40));
    }
}
