//! Where the kernel's source is: in the `sel4-sys` crate, which cargo downloads.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The crate that carries the source, and its version.
const CRATE: (&str, &str) = ("sel4-sys", "0.0.28");

/// The folder of the workspace.
pub fn root_directory() -> PathBuf {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    match crate_directory.ancestors().nth(2) {
        Some(root) => root.to_path_buf(),
        None => crate_directory.to_path_buf(),
    }
}

/// The kernel's source as shipped: the `seL4` folder of `sel4-sys` in cargo's registry. Read-only.
///
/// # Errors
/// If cargo cannot list or download the crate.
pub fn source() -> Result<PathBuf, Error> {
    let directory = match locate() {
        Ok(directory) => directory,
        // Not downloaded yet.
        Err(_) => {
            cargo(&["fetch"])?;
            locate()?
        }
    };
    let source = directory.join("seL4");
    if !source.join("Makefile").is_file() {
        return Err(Error::new(format!(
            "{} has no seL4 source; delete {} and run `cargo fetch`",
            source.display(),
            directory.display()
        )));
    }
    Ok(source)
}

/// The SHA-256 of the crate, as Cargo.lock pins it (and as cargo checked it when it downloaded it).
pub(crate) fn checksum() -> Result<String, Error> {
    let path = root_directory().join("Cargo.lock");
    let lock =
        std::fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
    find_checksum(&lock).ok_or_else(|| {
        Error::new(format!(
            "{} does not pin {} {}; run `cargo fetch`",
            path.display(),
            CRATE.0,
            CRATE.1
        ))
    })
}

fn find_checksum(lock: &str) -> Option<String> {
    let package = lock.split("[[package]]").find(|package| {
        package.contains(&format!("name = \"{}\"\n", CRATE.0))
            && package.contains(&format!("version = \"{}\"\n", CRATE.1))
    })?;
    let line = package
        .lines()
        .find_map(|line| line.strip_prefix("checksum = "))?;
    Some(line.trim_matches('"').to_owned())
}

/// The crate's folder, from `cargo metadata`.
fn locate() -> Result<PathBuf, Error> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--offline"])?;
    find_crate(&metadata).ok_or_else(|| {
        Error::new(format!(
            "cargo does not list {} {}, which carries the kernel's source; is it still in \
             crates/kernel/Cargo.toml?",
            CRATE.0, CRATE.1
        ))
    })
}

/// The crate's folder in the JSON text `metadata`.
///
/// A JSON parser would be this build-dependency's only dependency. The text has one
/// `manifest_path` for each package, and a path of a package is told by its last folder.
fn find_crate(metadata: &str) -> Option<PathBuf> {
    let in_registry = format!("{}-{}", CRATE.0, CRATE.1);
    metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter_map(|path| Path::new(path).parent())
        .find(|directory| {
            directory
                .file_name()
                .is_some_and(|name| name == in_registry.as_str() || name == CRATE.0)
        })
        .map(Path::to_path_buf)
}

fn cargo(arguments: &[&str]) -> Result<String, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .arg("--manifest-path")
        .arg(root_directory().join("Cargo.toml"))
        .output()
        .map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "`cargo {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Error::new(format!("`cargo {}` wrote no UTF-8", arguments.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_is_told_by_its_folder() {
        let metadata = r#"{"packages":[{"name":"a","manifest_path":"/w/sel4/Cargo.toml"},
            {"name":"sel4-sys","targets":[],"manifest_path":"/c/sel4-sys-0.0.28/Cargo.toml","x":1}]}"#;
        assert_eq!(
            find_crate(metadata),
            Some(PathBuf::from("/c/sel4-sys-0.0.28"))
        );
        assert_eq!(find_crate("{}"), None);
    }

    #[test]
    fn the_checksum_is_that_of_the_right_version() {
        let lock = "[[package]]\nname = \"sel4-sys\"\nversion = \"0.0.27\"\nchecksum = \"aa\"\n\n\
            [[package]]\nname = \"sel4-sys\"\nversion = \"0.0.28\"\nchecksum = \"bb\"\n";
        assert_eq!(find_checksum(lock).as_deref(), Some("bb"));
        assert_eq!(find_checksum(""), None);
    }

    #[test]
    fn the_source_is_there_and_pinned() {
        let source = source().unwrap();
        assert_eq!(
            std::fs::read_to_string(source.join("VERSION"))
                .unwrap()
                .trim(),
            "5.0.0"
        );
        assert_eq!(checksum().unwrap().len(), 64);
    }
}
