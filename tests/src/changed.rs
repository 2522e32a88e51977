//! Systems that are others after a change, built by the test itself.

use std::fs;
use std::path::{Path, PathBuf};

use segue_image::back_end::BootImage;
use segue_image::files::DiskFiles;
use segue_image::model::System;
use segue_qemu::Machine;

use crate::paths;

/// A boot image of a test's own, removed again.
pub struct OwnImage(PathBuf);

impl OwnImage {
    /// Writes it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let file = format!("segue-test-{name}-{}.elf", std::process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, bytes).expect("the image can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A machine of 256 MiB that boots it.
    pub fn machine(&self) -> Machine {
        Machine::new(paths::kernel("release"), &self.0).memory_mib(256)
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        // It is in the folder for temporary files: no harm if it stays.
        let _ = fs::remove_file(&self.0);
    }
}

/// A description in which a protection domain has this restart policy (attributes) instead of what
/// it had.
///
/// # Panics
/// If there is no such protection domain.
pub fn with_policy(text: &str, name: &str, policy: &str) -> String {
    let start = format!(r#"<protection_domain name="{name}" "#);
    let (before, rest) = text
        .split_once(&start)
        .unwrap_or_else(|| panic!("there is no {name}: adapt this test"));
    let (attributes, after) = rest.split_once('>').expect("a tag ends");
    let kept: Vec<&str> = attributes
        .split(' ')
        .filter(|attribute| {
            let (name, _) = attribute.split_once('=').unwrap_or((attribute, ""));
            !name.starts_with("restart") && name != "heartbeat_ms"
        })
        .collect();
    format!("{before}{start}{} {policy}>{after}", kept.join(" "))
}

/// A system after a change of its description.
pub struct Changed {
    /// What the description says.
    pub system: System,
    /// Where its programs are.
    pub programs: PathBuf,
}

impl Changed {
    /// Reads the description of `system` and changes it.
    ///
    /// # Panics
    /// With the mistakes, if the description has any.
    pub fn new(system: &str, change: impl FnOnce(String) -> String) -> Self {
        let description = paths::description(system);
        let text = change(fs::read_to_string(&description).expect("a description"));
        let programs = paths::programs(match text.contains("<fault_injection") {
            true => "faulty",
            false => "pd",
        });
        let files = DiskFiles {
            programs: programs.clone(),
            base: description
                .parent()
                .expect("a file lies in a folder")
                .to_owned(),
        };
        match segue_image::parse(&text, &files) {
            Ok(parsed) => Self {
                system: parsed.system,
                programs,
            },
            Err(mistakes) => {
                let lines = mistakes
                    .iter()
                    .map(|mistake| mistake.line("the changed system"));
                panic!("{}", lines.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// Its image.
    ///
    /// # Panics
    /// With the problems, if there are any.
    pub fn image(&self) -> BootImage {
        let init = self.programs.join("segue-init");
        match segue_image::back_end::build(&self.system, &init) {
            Ok(image) => image,
            Err(problems) => panic!("{problems:?}"),
        }
    }
}

/// The image of a system after a change of its description.
///
/// # Panics
/// With the mistakes, if the description has any.
pub fn build_system(system: &str, change: impl FnOnce(String) -> String) -> BootImage {
    Changed::new(system, change).image()
}
