//! The programs that build the kernel, and sentences for when one is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Programs, and Debian's package for each.
const PROGRAMS: &[(&str, &str)] = &[
    ("gcc", "gcc"),
    ("cpp", "cpp"),
    ("make", "make"),
    ("as", "binutils"),
    ("ld", "binutils"),
    ("strip", "binutils"),
    ("objcopy", "binutils"),
];

/// Modules the kernel's generators import.
const PYTHON_MODULES: &str = "six, ply, tempita";

/// Fails with a sentence if a program is missing; else the compiler's version line.
pub(crate) fn check() -> Result<String, Error> {
    for (program, package) in PROGRAMS {
        if !runs(Command::new(program).arg("--version")) {
            return Err(Error::new(format!(
                "`{program}` is missing, which the kernel's build needs; install it, on Debian with \
                 `apt-get install {package}`"
            )));
        }
    }
    let output = Command::new("gcc")
        .arg("--version")
        .output()
        .map_err(|error| Error::new(format!("cannot run gcc: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A Python 3 with all modules the generators need: the one on the PATH, else Debian's.
pub(crate) fn python() -> Result<PathBuf, Error> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&on_path)
        .map(|directory| directory.join("python3"))
        .chain([PathBuf::from("/usr/bin/python3")]);
    let mut seen = false;
    for candidate in candidates.filter(|candidate| candidate.is_file()) {
        seen = true;
        if has_modules(&candidate) {
            return Ok(candidate);
        }
    }
    Err(Error::new(if seen {
        format!(
            "no Python 3 here has the modules {PYTHON_MODULES}, which the kernel's build needs; \
             install them, on Debian with `apt-get install python3-six python3-ply python3-tempita`"
        )
    } else {
        "`python3` is missing, which the kernel's build needs; install it, on Debian with \
         `apt-get install python3 python3-six python3-ply python3-tempita`"
            .to_owned()
    }))
}

fn has_modules(python: &Path) -> bool {
    runs(Command::new(python).arg("-c").arg(format!(
        "import sys, {PYTHON_MODULES}; sys.exit(sys.version_info < (3,))"
    )))
}

fn runs(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
