//! System descriptions of any text: mistakes are said, nothing panics.
//!
//! The programs of the default system are there, so a description may also turn
//! out to be fine.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/image/tests/support/mod.rs"]
mod support;

static FILES: LazyLock<support::TestFiles> = LazyLock::new(support::default_programs);

fuzz_target!(|text: &str| {
    match segue_image::parse(text, &*FILES) {
        Ok(parsed) => {
            let count = parsed.system.protection_domains.len();
            assert_eq!(parsed.segments.len(), count);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            assert!(mistakes.is_sorted_by_key(|mistake| mistake.position));
            for mistake in mistakes {
                assert!(!mistake.message.is_empty());
                assert!(mistake.position.line >= 1 && mistake.position.column >= 1);
            }
        }
    }
});
