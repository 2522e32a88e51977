//! The documentation of the format names everything that exists.

use std::path::Path;

/// Elements and attributes as the front end knows them.
#[test]
fn every_element_and_attribute_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/system-description.md")).unwrap();
    for (element, attributes) in segue_image::elements() {
        if element != "system" {
            assert!(text.contains(&format!("`{element}`")), "<{element}>");
        }
        for attribute in attributes {
            // Rows such as `[bar0]`...`[bar5]` describe the ones in between.
            let described = attribute.trim_end_matches("_size");
            let first = described.trim_end_matches(|last: char| last.is_ascii_digit());
            let series = format!("`[{first}0]`...");
            let named = [
                format!("`{attribute}`"),
                format!("`[{attribute}]`"),
                format!("`{attribute}="),
            ];
            assert!(
                named.iter().any(|name| text.contains(name)) || text.contains(&series),
                "{attribute} of <{element}>"
            );
        }
    }
}
