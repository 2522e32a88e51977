//! How large things are.

use std::fs;
use std::path::Path;

use super::{Figure, rounded};
use crate::paths;

/// What runs with all capabilities beside the kernel: init and what it is linked with.
const PRIVILEGED: &[&str] = &[
    "pds/init/src",
    "crates/sel4/src",
    "crates/system-image/src",
    "crates/status/src",
    "crates/shared-memory/src",
];

/// Parts of these that are not linked into init.
const NOT_LINKED: &[&str] = &[
    "write.rs",
    "testing.rs",
    "tests.rs",
    "network.rs",
    "symbols.rs",
];

pub(super) fn measure() -> Vec<Figure> {
    let image = paths::image("system");
    let bytes = fs::metadata(&image)
        .unwrap_or_else(|error| panic!("{}: {error}", image.display()))
        .len();
    let user: usize = PRIVILEGED
        .iter()
        .map(|folder| rust_lines(&paths::root().join(folder)))
        .sum();
    let kernel = paths::root().join("build/kernel/release/build/kernel_final.c");
    let kernel =
        fs::read_to_string(&kernel).unwrap_or_else(|error| panic!("{}: {error}", kernel.display()));
    let kernel = kernel
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .count();
    vec![
        Figure::new(
            "image.size_kib",
            rounded(bytes as f64 / 1024.0, 0),
            "KiB",
            "boot image of the default system: init, all programs, the files",
        ),
        Figure::new(
            "privileged.user_lines",
            user as f64,
            "lines",
            "Rust that runs with all capabilities (init, bindings, image reader), without comments, \
             blank lines and tests",
        ),
        Figure::new(
            "privileged.kernel_lines",
            kernel as f64,
            "lines",
            "C of the kernel as compiled, after the preprocessor",
        ),
    ]
}

fn rust_lines(folder: &Path) -> usize {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                rust_lines(&path)
            } else if name.ends_with(".rs") && !NOT_LINKED.contains(&name.as_str()) {
                let text = fs::read_to_string(&path);
                lines(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            } else {
                0
            }
        })
        .sum()
}

/// Lines of code up to the test module, which stands last.
fn lines(text: &str) -> usize {
    text.lines()
        .map(str::trim)
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blanks_and_tests_do_not_count() {
        let text = "//! x\n\nfn a() {\n    // y\n    b();\n}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(lines(text), 3);
    }
}
