//! What lies where in an address space.

use std::ops::Range;

use crate::diagnostics::Diagnostics;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 0x1000;

/// Bytes of a large page.
pub(crate) const LARGE_PAGE: u64 = 0x20_0000;

/// The page of a protection domain's IPC buffer.
pub(crate) const IPC_BUFFER: u64 = 0x7fff_ffff_e000;

/// One past the highest byte of a protection domain's stack.
pub(crate) const STACK_TOP: u64 = 0x7fff_ffff_d000;

/// Where the builder starts to look for addresses of what it maps itself.
const GENERATED: u64 = 0x20_0000_0000;

/// One past the highest address that a device can name: VT-d with three levels.
pub(crate) const DEVICE_ADDRESS_END: u64 = 1 << 39;

/// Something in an address space.
#[derive(Clone, Debug)]
struct Span {
    range: Range<u64>,
    what: String,
    /// The element it comes from.
    at: Option<usize>,
}

/// All that is in an address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    list: Vec<Span>,
}

impl Spans {
    /// Notes `what` at `range` without asking what else is there.
    pub(crate) fn insert(&mut self, range: Range<u64>, what: impl Into<String>, at: Option<usize>) {
        self.list.push(Span {
            range,
            what: what.into(),
            at,
        });
    }

    /// Notes `what` at `range`, or reports what is already there.
    pub(crate) fn claim(
        &mut self,
        range: Range<u64>,
        what: String,
        at: usize,
        limit: u64,
        alignment: u64,
        diagnostics: &mut Diagnostics<'_>,
    ) {
        if let Some(other) = self.overlapping(&range) {
            let place = match other.at {
                Some(at) => format!(" (line {})", diagnostics.line(at)),
                None => String::new(),
            };
            let size = range.end - range.start;
            let hint = match free_address(&[self], range.start, size, alignment, limit) {
                Some(free) => format!("the next free address is {free:#x}"),
                None => "choose a lower address".into(),
            };
            diagnostics.error(
                at,
                format!(
                    "{what} at {:#x} to {:#x} overlaps {}{place} at {:#x} to {:#x}: {hint}",
                    range.start,
                    range.end - 1,
                    other.what,
                    other.range.start,
                    other.range.end - 1
                ),
            );
        }
        self.insert(range, what, Some(at));
    }

    fn overlapping(&self, range: &Range<u64>) -> Option<&Span> {
        self.list
            .iter()
            .find(|span| span.range.start < range.end && range.start < span.range.end)
    }
}

/// The lowest multiple of `alignment` from `from` on at which `size` bytes are
/// free in all of `spaces` and end at or below `limit`.
pub(crate) fn free_address(
    spaces: &[&Spans],
    from: u64,
    size: u64,
    alignment: u64,
    limit: u64,
) -> Option<u64> {
    let mut address = from.checked_next_multiple_of(alignment)?;
    loop {
        let end = address.checked_add(size).filter(|end| *end <= limit)?;
        let blocked = spaces
            .iter()
            .find_map(|spans| spans.overlapping(&(address..end)));
        match blocked {
            None => return Some(address),
            Some(span) => address = span.range.end.checked_next_multiple_of(alignment)?,
        }
    }
}

/// Where the builder maps something of its own of `size` bytes: free in all of
/// `spaces`, with an unmapped page before and after it, in reach of devices.
pub(crate) fn generated_address(spaces: &[&Spans], size: u64) -> Option<u64> {
    let room = size.checked_add(2 * PAGE)?;
    let start = free_address(spaces, GENERATED, room, PAGE, DEVICE_ADDRESS_END)?;
    Some(start + PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_addresses_leave_a_page_between_each_other() {
        let mut spans = Spans::default();
        let first = generated_address(&[&spans], 0x2000).unwrap();
        assert_eq!(first, GENERATED + PAGE);
        spans.insert(first..first + 0x2000, "one", None);
        let second = generated_address(&[&spans, &Spans::default()], 0x1000).unwrap();
        assert_eq!(second, first + 0x2000 + PAGE);
        assert_eq!(generated_address(&[&spans], u64::MAX), None);
        assert_eq!(generated_address(&[&spans], 1 << 39), None);
    }

    #[test]
    fn a_free_address_is_above_everything_in_its_way() {
        let mut spans = Spans::default();
        spans.insert(0x1000..0x3000, "a", None);
        spans.insert(0x3000..0x4000, "b", None);
        spans.insert(0x5000..0x6000, "c", None);
        let free = |size| free_address(&[&spans], 0x2000, size, PAGE, 0x10000);
        assert_eq!(free(0x1000), Some(0x4000));
        assert_eq!(free(0x2000), Some(0x6000));
        assert_eq!(free(0x10000), None);
    }
}
