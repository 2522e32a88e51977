//! The project's own system description.

mod support;

use segue_image::model::System;

fn default_system() -> System {
    let text = support::DEFAULT_SYSTEM;
    match segue_image::parse(text, &support::default_programs()) {
        Ok(parsed) => {
            let warnings: Vec<String> = parsed
                .warnings
                .iter()
                .map(|warning| warning.line("system.xml"))
                .collect();
            assert_eq!(warnings, Vec::<String>::new());
            parsed.system
        }
        Err(found) => panic!(
            "{}",
            found
                .iter()
                .map(|diagnostic| diagnostic.line("system.xml"))
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

#[test]
fn the_default_system_has_no_mistake() {
    let system = default_system();
    let text = format!("{system:#?}");
    // For people: cargo test -- --nocapture
    println!("{text}");
    assert_eq!(system.machine_memory, 256 << 20);
    assert_eq!(text, format!("{:#?}", default_system()));
}

#[test]
fn the_picture_is_the_same_each_time() {
    let system = default_system();
    let picture = segue_image::picture::draw(&system);
    assert_eq!(picture, segue_image::picture::draw(&system));
    if let Ok(path) = std::env::var("SEGUE_PICTURE") {
        std::fs::write(path, &picture).unwrap();
    }
}
