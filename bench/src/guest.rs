//! The Linux guest: Debian's kernel, and an initramfs with its programs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cpio::newc::{Builder, trailer};
use object::read::elf::{Dyn as _, ElfFile64};
use object::{Endianness, elf};

use crate::machines::BOOT;
use crate::packages::Packages;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
/// Drivers, in the order in which they are loaded, below `kernel/drivers`.
const DRIVERS: [&str; 4] = [
    "dca/dca",
    "i2c/algos/i2c-algo-bit",
    "net/ethernet/intel/igb/igb",
    "net/ethernet/intel/igbvf/igbvf",
];
const FOLDERS: [&str; 18] = [
    "bin",
    "dev",
    "etc",
    "etc/nginx",
    "lib",
    "lib64",
    "modules",
    "proc",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr",
    "usr/share",
    "usr/share/nginx",
    "var",
    "var/log",
    "var/log/nginx",
];
const LOADER: &str = "ld-linux-x86-64.so.2";
const PASSWORDS: &str =
    "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n";

/// A guest that can be booted.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// How long it may take to start. It takes seconds; this much only if it never will.
    pub patience: Duration,
}

impl Guest {
    /// Writes the initramfs to `path`: the programs, the libraries that they need, `files` to be served, and
    /// `echo`, which is at `/bin/segue-bench-echo`.
    ///
    /// # Errors
    /// A sentence if a file is missing or cannot be written.
    pub fn build(
        packages: &Packages,
        files: &Path,
        echo: &Path,
        path: &Path,
    ) -> Result<Self, String> {
        let mut archive = Archive::default();
        let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        for folder in FOLDERS {
            archive.add(folder, FOLDER, Vec::new());
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("linux");
        for (name, mode) in [("init", PROGRAM), ("nginx.conf", FILE)] {
            let source = sources.join(name);
            let bytes = fs::read(&source).map_err(|error| named(&source, error))?;
            let place = if name == "init" {
                "init"
            } else {
                "etc/nginx/nginx.conf"
            };
            archive.add(place, mode, bytes);
        }
        archive.add("etc/passwd", FILE, PASSWORDS.into());
        archive.add("etc/group", FILE, GROUPS.into());
        let root = &packages.root;
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|name| root.join(name));
        let busybox = busybox.iter().find(|file| file.is_file());
        let busybox = busybox.ok_or("the package busybox-static holds no busybox")?;
        archive.add(
            "bin/busybox",
            PROGRAM,
            fs::read(busybox).map_err(|error| named(busybox, error))?,
        );
        let mut libraries = BTreeSet::new();
        for (name, source) in [
            ("nginx", root.join("usr/sbin/nginx")),
            ("redis-server", root.join("usr/bin/redis-server")),
            ("segue-bench-echo", echo.to_owned()),
        ] {
            let bytes = fs::read(&source).map_err(|error| named(&source, error))?;
            archive.add_libraries(root, &bytes, &mut libraries)?;
            archive.add(&format!("bin/{name}"), PROGRAM, bytes);
        }
        let loader = library(root, LOADER)?;
        archive.add(
            &format!("lib64/{LOADER}"),
            PROGRAM,
            fs::read(&loader).map_err(|error| named(&loader, error))?,
        );
        for driver in DRIVERS {
            let name = driver.rsplit('/').next().unwrap_or(driver);
            archive.add(
                &format!("modules/{name}.ko"),
                FILE,
                module(packages, driver)?,
            );
        }
        let entries = fs::read_dir(files).map_err(|error| named(files, error))?;
        for entry in entries.flatten() {
            let source = entry.path();
            if source
                .extension()
                .is_some_and(|extension| extension == "bin")
            {
                let bytes = fs::read(&source).map_err(|error| named(&source, error))?;
                archive.add(
                    &format!("srv/{}", entry.file_name().to_string_lossy()),
                    FILE,
                    bytes,
                );
            }
        }
        let file = fs::File::create(path).map_err(|error| named(path, error))?;
        archive.write(file).map_err(|error| named(path, error))?;
        Ok(Self {
            kernel: packages.kernel(),
            initramfs: path.to_owned(),
            patience: BOOT,
        })
    }
}

/// Files with their modes.
#[derive(Default)]
struct Archive {
    entries: Vec<(String, u32, Vec<u8>)>,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, bytes: Vec<u8>) {
        self.entries.push((name.to_owned(), mode, bytes));
    }

    /// Adds what a program or a library needs, and what that needs.
    fn add_libraries(
        &mut self,
        root: &Path,
        program: &[u8],
        there: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        for name in needed(program)? {
            if name == LOADER || !there.insert(name.clone()) {
                continue;
            }
            let source = library(root, &name)?;
            let bytes =
                fs::read(&source).map_err(|error| format!("{}: {error}", source.display()))?;
            self.add_libraries(root, &bytes, there)?;
            self.add(&format!("lib/{name}"), PROGRAM, bytes);
        }
        Ok(())
    }

    fn write(self, mut to: impl Write) -> io::Result<()> {
        for (number, (name, mode, bytes)) in self.entries.into_iter().enumerate() {
            let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let entry = Builder::new(&name)
                .ino(number as u32 + 1)
                .mode(mode)
                .nlink(1);
            let mut writer = entry.write(to, size);
            writer.write_all(&bytes)?;
            to = writer.finish()?;
        }
        trailer(to)?.flush()
    }
}

/// Where a library lies; Debian has moved them from one folder to the other.
fn library(root: &Path, name: &str) -> Result<PathBuf, String> {
    let folders = [
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib64",
        "usr/lib64",
    ];
    let places = folders.map(|folder| root.join(folder).join(name));
    let found = places
        .into_iter()
        .find_map(|place| place.canonicalize().ok());
    found.ok_or(format!(
        "no package that was fetched has the library {name}"
    ))
}

/// The libraries that a program asks for (`DT_NEEDED`).
fn needed(program: &[u8]) -> Result<Vec<String>, String> {
    let read = || -> object::Result<Vec<String>> {
        let file = ElfFile64::<Endianness>::parse(program)?;
        let endian = file.endian();
        let sections = file.elf_section_table();
        let Some((entries, strings)) = sections.dynamic(endian, program)? else {
            return Ok(Vec::new());
        };
        let strings = sections.strings(endian, program, strings)?;
        entries
            .iter()
            .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
            .map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned()))
            .collect()
    };
    read().map_err(|error| format!("a program of the Linux guest cannot be read: {error}"))
}

/// A driver, as the kernel loads it.
fn module(packages: &Packages, driver: &str) -> Result<Vec<u8>, String> {
    for modules in ["lib/modules", "usr/lib/modules"] {
        let folder = packages.root.join(modules).join(&packages.release);
        let plain = folder.join(format!("kernel/drivers/{driver}.ko"));
        if let Ok(bytes) = fs::read(&plain) {
            return Ok(bytes);
        }
        if let Ok(packed) = fs::read(plain.with_extension("ko.xz")) {
            let mut bytes = Vec::new();
            let unpacked = lzma_rs::xz_decompress(&mut packed.as_slice(), &mut bytes);
            unpacked.map_err(|error| format!("{driver}.ko.xz cannot be unpacked: {error:?}"))?;
            return Ok(bytes);
        }
    }
    Err(format!(
        "the kernel {} has no driver {driver}",
        packages.release
    ))
}
