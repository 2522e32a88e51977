//! System descriptions of any text: mistakes are said, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segue_image::files::NoFiles;

fuzz_target!(|text: &str| {
    if let Err(mistakes) = segue_image::parse(text, &NoFiles) {
        assert!(!mistakes.is_empty(), "refused without a reason");
        for mistake in mistakes {
            assert!(!mistake.message.is_empty());
            assert!(mistake.position.line >= 1 && mistake.position.column >= 1);
        }
    }
});
