//! A file of its own for each HTTP application of a system, so that it shows whose bytes are whose.

use std::fs;
use std::path::Path;

use crate::random::Random;

/// Where each serves its own.
pub const PATH: &str = "/own.bin";
/// Bytes of a file.
const LENGTH: usize = 20_000;
const SHARED: &str = "mr=\"http_files\"";

/// What the `number`-th application of the description serves and no other does.
pub fn contents(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Random::new(number as u64 + 1).fill(&mut bytes);
    bytes
}

/// A system whose applications serve the same files, with files of its own for each one, which are
/// written to `folder`.
///
/// # Panics
/// If they cannot be written, or the description has changed its form.
pub fn describe(text: String, folder: &Path) -> String {
    let region = |number: usize| format!("own_files_{number}");
    let mut regions = String::new();
    let mut parts = text.split(SHARED);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        let own = folder.join(number.to_string());
        fs::create_dir(&own).expect("a folder can be made");
        fs::write(own.join(&PATH[1..]), contents(number)).expect("a file can be written");
        regions += &format!(
            r#"<memory_region name="{}" prefill_directory="{}"/>"#,
            region(number),
            own.display()
        );
        changed += &format!("mr=\"{}\"{part}", region(number));
    }
    // Nobody reads the files of all now.
    let start = changed
        .find("<memory_region name=\"http_files\"")
        .expect("the system has files");
    let end = start + changed[start..].find("/>").expect("an element ends") + 2;
    changed.replace_range(start..end, &regions);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "<memory_region name=\"http_files\" a=\"b\"/> mr=\"http_files\" mr=\"http_files\".";
        let changed = describe(text.into(), folder.path());
        assert!(
            changed.ends_with("/> mr=\"own_files_0\" mr=\"own_files_1\"."),
            "{changed}"
        );
        assert!(!changed.contains("http_files"));
        for number in 0..2 {
            let file = folder.path().join(format!("{number}{PATH}"));
            assert_eq!(fs::read(file).unwrap(), contents(number));
        }
        assert_ne!(contents(0), contents(1));
    }
}
