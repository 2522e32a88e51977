//! A build of one variant: copy, fix, configure, make.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::configuration::{Variant, header};
use crate::fix::{FIXES, Fix, apply};
use crate::source::{checksum, source};
use crate::{Error, tools};

/// What [`build`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel was built.
    Built,
    /// Source, fixes, configuration and compiler are those of the kernel that is there.
    UpToDate,
}

/// The kernel as QEMU's `-kernel` takes it: a 32-bit ELF file.
const KERNEL: &str = "k32.elf";

/// Builds `variant` into the folder `output`, unless what is there is up to date.
///
/// Leaves there `k32.elf` (for QEMU's `-kernel`), `kernel.elf` (64-bit, with symbols) and the
/// source it was built from. `progress` is given a line for each step that takes a while.
///
/// # Errors
/// A sentence that says what is missing, which fix no longer applies, or what the compiler said.
pub fn build(
    variant: Variant,
    output: &Path,
    progress: impl FnMut(&str),
) -> Result<Outcome, Error> {
    let fixes = if variant.is_fixed() { FIXES } else { &[] };
    build_with(variant, fixes, output, progress)
}

fn build_with(
    variant: Variant,
    fixes: &[Fix],
    output: &Path,
    mut progress: impl FnMut(&str),
) -> Result<Outcome, Error> {
    fs::create_dir_all(output).map_err(|error| Error::file("create", output, &error))?;
    // Two builds of the same folder take turns.
    let lock_path = output.join("lock");
    let lock = File::create(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::file("lock", &lock_path, &error))?;

    let compiler = tools::check()?;
    let source = source()?;
    let inputs = inputs(variant, fixes, &checksum()?, &compiler);
    let stamp = output.join("stamp");
    if output.join(KERNEL).is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == inputs) {
        return Ok(Outcome::UpToDate);
    }
    let python = tools::python()?;

    progress(&format!("kernel ({variant}): copying seL4's source"));
    let copy = output.join("seL4");
    let build_directory = output.join("build");
    // Whatever fails from here on, no kernel is left that could be taken for this one.
    remove(&stamp)?;
    remove(&output.join(KERNEL))?;
    remove(&copy)?;
    remove(&build_directory)?;
    copy_directory(&source, &copy)?;

    if !fixes.is_empty() {
        let count = fixes.len();
        progress(&format!("kernel ({variant}): applying {count} fixes"));
    }
    for fix in fixes {
        apply(fix, &copy)?;
    }
    write(&copy.join("include/plat/pc99/autoconf.h"), &header(variant))?;

    progress(&format!("kernel ({variant}): compiling"));
    fs::create_dir_all(&build_directory)
        .map_err(|error| Error::file("create", &build_directory, &error))?;
    make(variant, output, &build_directory, &python)?;
    let kernel = build_directory.join("kernel.elf");
    fs::copy(&kernel, output.join("kernel.elf"))
        .map_err(|error| Error::file("copy", &kernel, &error))?;
    run(
        Command::new("objcopy")
            .args(["-O", "elf32-i386"])
            .arg(build_directory.join("kernel.elf.strip"))
            .arg(output.join(KERNEL)),
        &output.join("objcopy.log"),
        "objcopy",
    )?;
    write(&stamp, &inputs)?;
    drop(lock);
    Ok(Outcome::Built)
}

/// Everything the kernel is made of, as text: equal text, equal kernel.
fn inputs(variant: Variant, fixes: &[Fix], checksum: &str, compiler: &str) -> String {
    let mut text = format!("sel4-sys {checksum}\n{compiler}\n{}", header(variant));
    for fix in fixes {
        text.push_str(&format!("fix {}\n{}", fix.name, fix.text));
    }
    text
}

fn make(variant: Variant, output: &Path, directory: &Path, python: &Path) -> Result<(), Error> {
    let tools = output.join("tools");
    remove(&tools)?;
    fs::create_dir_all(&tools).map_err(|error| Error::file("create", &tools, &error))?;
    for (name, target) in [
        // The generators are started as `python`, which many systems do not have.
        ("python", python),
        // It would check interface files that Cargo.lock's checksum has already checked.
        ("xmllint", Path::new("/bin/true")),
    ] {
        let link = tools.join(name);
        std::os::unix::fs::symlink(target, &link)
            .map_err(|error| Error::file("create", &link, &error))?;
    }
    let tools = tools
        .canonicalize()
        .map_err(|error| Error::file("find", &tools, &error))?;
    let mut path = tools.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());

    let mut make = Command::new("make");
    make.current_dir(directory)
        .args(["-f", "../seL4/Makefile", "SOURCE_ROOT=../seL4"])
        .args(["ARCH=x86", "PLAT=pc99", "SEL4_ARCH=x86_64"])
        // The kernel's own default warnings stop the build with a newer gcc.
        .args(["CIRCULAR_INCLUDES=true", "WARNINGS=all"])
        .env("PATH", path)
        // What an outer make or the user set is not meant for this one.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env_remove("MFLAGS")
        .env_remove("CFLAGS")
        .env_remove("CPPFLAGS")
        .env_remove("LDFLAGS")
        .env_remove("DEBUG")
        .env("LC_ALL", "C");
    if variant.is_debug() {
        make.arg("DEBUG=1");
    }
    run(&mut make, &output.join("make.log"), "the kernel's build")
}

/// Runs `command` quietly; if it fails, the error has the end of what it wrote, and where all is.
fn run(command: &mut Command, log: &Path, what: &str) -> Result<(), Error> {
    let file = File::create(log).map_err(|error| Error::file("create", log, &error))?;
    let errors = file
        .try_clone()
        .map_err(|error| Error::file("open", log, &error))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .map_err(|error| Error::new(format!("cannot start {what}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(15)..].join("\n");
    Err(Error::new(format!(
        "{what} failed ({status}); all it wrote is in {}, and it ended with:\n{tail}",
        log.display()
    )))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::file("write", path, &error))
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else if path.exists() {
        fs::remove_file(path)
    } else {
        Ok(())
    };
    result.map_err(|error| Error::file("remove", path, &error))
}

/// Copies a folder with all that is in it; the copies are writable.
fn copy_directory(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|error| Error::file("create", to, &error))?;
    let entries: Vec<PathBuf> = fs::read_dir(from)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| Error::file("read", from, &error))?;
    for entry in entries {
        let Some(name) = entry.file_name() else {
            continue;
        };
        let target = to.join(name);
        if entry.is_dir() {
            copy_directory(&entry, &target)?;
        } else {
            copy_file(&entry, &target).map_err(|error| Error::file("copy", &entry, &error))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::copy(from, to)?;
    let mut permissions = fs::metadata(to)?.permissions();
    permissions.set_mode(permissions.mode() | 0o200);
    fs::set_permissions(to, permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_differ_between_variants_fixes_sources_and_compilers() {
        let debug = inputs(Variant::Debug, FIXES, "aa", "gcc 12");
        assert_ne!(debug, inputs(Variant::Release, FIXES, "aa", "gcc 12"));
        assert_ne!(debug, inputs(Variant::Debug, &FIXES[1..], "aa", "gcc 12"));
        assert_ne!(debug, inputs(Variant::Debug, FIXES, "bb", "gcc 12"));
        assert_ne!(debug, inputs(Variant::Debug, FIXES, "aa", "gcc 13"));
    }

    #[test]
    fn a_fix_that_does_not_fit_stops_the_build_and_leaves_no_kernel() {
        let stray = Fix {
            name: "stray",
            text: "--- a/src/object/cnode.c\n+++ b/src/object/cnode.c\n\
                   @@ -1 +1 @@\n-no such line\n+another\n",
        };
        let output =
            std::env::temp_dir().join(format!("segue-kernel-stray-{}", std::process::id()));
        fs::create_dir_all(&output).unwrap();
        fs::write(output.join(KERNEL), "an older kernel").unwrap();
        let error = build_with(Variant::Debug, &[stray], &output, |_| {})
            .unwrap_err()
            .to_string();
        let kernel_is_left = output.join(KERNEL).exists();
        fs::remove_dir_all(&output).unwrap();
        assert!(error.contains("the fix stray no longer applies"), "{error}");
        assert!(error.contains("src/object/cnode.c"), "{error}");
        assert!(!kernel_is_left);
    }

    #[test]
    fn a_failing_program_is_reported_with_what_it_wrote() {
        let log = std::env::temp_dir().join(format!("segue-kernel-run-{}", std::process::id()));
        let error = run(
            Command::new("sh").args(["-c", "echo the reason; exit 3"]),
            &log,
            "the test",
        )
        .unwrap_err()
        .to_string();
        fs::remove_file(&log).unwrap();
        assert!(error.starts_with("the test failed"), "{error}");
        assert!(error.ends_with("the reason"), "{error}");
    }
}
