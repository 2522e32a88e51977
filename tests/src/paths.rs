//! Where things are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder that holds the whole project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is a folder of the project")
        .to_owned()
}

/// A kernel that `make test-images` built: `debug`, `release` or `plain`.
pub fn kernel(variant: &str) -> PathBuf {
    root().join("build/kernel").join(variant).join("k32.elf")
}

/// The image that `make test-images` built of a system: `system`, or a name in `tests/systems`.
pub fn image(system: &str) -> PathBuf {
    root().join("build").join(system).join("image.elf")
}

/// The cargo that started this, or the one in the path.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Where a test program finds the compiler's libraries (those of procedural macros need them).
pub(crate) fn libraries() -> &'static str {
    static LIBRARIES: OnceLock<String> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let printed = |what| {
            let output = Command::new("rustc").args(["--print", what]).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            text.unwrap_or_default().trim().to_owned()
        };
        format!("{}:{}/lib", printed("target-libdir"), printed("sysroot"))
    })
}

/// The description of `system`.
pub fn description(system: &str) -> PathBuf {
    match system {
        "system" => root().join("system.xml"),
        name => {
            let file = format!("{name}.xml");
            let derived = root().join("build/test-systems").join(&file);
            if derived.exists() {
                derived
            } else {
                root().join("tests/systems").join(file)
            }
        }
    }
}

/// The folder of the machine's programs that were built in `build/<variant>`: `pd`, or `faulty` for those
/// with fault points.
pub fn programs(variant: &str) -> PathBuf {
    root().join(format!("build/{variant}/x86_64-unknown-linux-gnu/pd"))
}
