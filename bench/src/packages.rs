//! Debian packages, fetched and unpacked without being installed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What runs in the guest; what these need comes with them.
const PROGRAMS: [&str; 3] = ["busybox-static", "nginx", "redis-server"];
/// What depends on the newest kernel.
const KERNEL: &str = "linux-image-amd64";

/// Packages in a folder.
#[derive(Clone, Debug)]
pub struct Packages {
    /// Where their files are.
    pub root: PathBuf,
    /// The kernel's release, as in `lib/modules`.
    pub release: String,
    /// Each package and its version.
    pub versions: BTreeMap<String, String>,
}

impl Packages {
    /// Fetches and unpacks them into `folder`, if they are not there already.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn fetch(folder: &Path) -> Result<Self, String> {
        for tool in ["apt-get", "apt-cache", "dpkg", "dpkg-deb"] {
            if Command::new(tool).arg("--version").output().is_err() {
                return Err(format!(
                    "the Linux guest is made of Debian packages, and this machine has no {tool}: run this on Debian"
                ));
            }
        }
        let (kernel, kernel_version) = match newest_kernel() {
            Some(found) => found,
            None => {
                println!("apt knows no {KERNEL} yet: apt-get update");
                run("apt-get", ["-q", "update"])?;
                newest_kernel().ok_or(format!(
                    "apt knows no package {KERNEL}: add Debian's sources to /etc/apt, then try again"
                ))?
            }
        };
        let mut versions = needed()?;
        versions.insert(kernel.clone(), kernel_version);
        let packages = Self {
            root: folder.join("root"),
            release: kernel.trim_start_matches("linux-image-").to_owned(),
            versions,
        };
        let list = folder.join("versions.json");
        let wanted = serde_json::json!(packages.versions).to_string();
        if fs::read_to_string(&list).is_ok_and(|there| there == wanted) {
            return Ok(packages);
        }
        println!(
            "fetching {} Debian packages (some 130 MB; nothing is installed)",
            packages.versions.len()
        );
        // A folder that is half full would look like a whole one.
        let _ = fs::remove_dir_all(folder);
        let archives = folder.join("archives");
        let made = fs::create_dir_all(&archives).and_then(|()| fs::create_dir_all(&packages.root));
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let all = packages.versions.iter();
        let all = all.map(|(name, version)| format!("{name}={version}"));
        let mut download = Command::new("apt-get");
        download
            .current_dir(&archives)
            .args(["-q", "download"])
            .args(all);
        finished(&mut download)?;
        let entries = fs::read_dir(&archives).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let archive = entry.path();
            run(
                "dpkg-deb",
                [
                    OsStr::new("-x"),
                    archive.as_os_str(),
                    packages.root.as_os_str(),
                ],
            )?;
        }
        // Only what is unpacked is needed from here on.
        let _ = fs::remove_dir_all(&archives);
        fs::write(&list, wanted).map_err(|error| format!("{}: {error}", list.display()))?;
        Ok(packages)
    }

    /// The version of a package; a kernel's if `name` is the beginning of its name.
    pub fn version(&self, name: &str) -> &str {
        let found = self
            .versions
            .iter()
            .find(|(other, _)| other.starts_with(name));
        found.map_or("?", |(_, version)| version)
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }
}

/// The newest kernel that apt knows, and its version.
fn newest_kernel() -> Option<(String, String)> {
    let output = Command::new("apt-cache")
        .args(["show", KERNEL])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |stanza: &str, name: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    };
    let kernels = text.split("\n\n").filter_map(|stanza| {
        let version = field(stanza, "Version:")?;
        let depends = field(stanza, "Depends:")?;
        let name = depends
            .split(' ')
            .find(|name| name.starts_with("linux-image-"))?;
        Some((name.to_owned(), version))
    });
    kernels.reduce(|newest, other| {
        let is_newer = Command::new("dpkg")
            .args(["--compare-versions", &other.1, "gt", &newest.1])
            .status();
        match is_newer.is_ok_and(|status| status.success()) {
            true => other,
            false => newest,
        }
    })
}

/// What the programs need, as apt finds it for a machine on which nothing is installed: libraries, and
/// the programs themselves.
fn needed() -> Result<BTreeMap<String, String>, String> {
    let mut simulation = Command::new("apt-get");
    simulation
        .args(["-s", "-q", "--no-install-recommends"])
        .args(["-o", "Dir::State::status=/dev/null", "install"])
        .args(PROGRAMS);
    let text = finished(&mut simulation)?;
    let text = String::from_utf8_lossy(&text.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            let version = rest.split(' ').next()?;
            Some((name.to_owned(), version.to_owned()))
        })
        .filter(|(name, _)| is_of_use(name))
        .collect())
}

/// Whether something of a package can get into the guest.
fn is_of_use(name: &str) -> bool {
    let is_library = name.starts_with("lib") && !name.contains("perl") && !name.contains("pam");
    is_library || name == "zlib1g" || name == "redis-tools" || PROGRAMS.contains(&name)
}

fn run(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Output, String> {
    finished(Command::new(program).args(arguments))
}

/// Runs it to its end; if it fails, what it has said last.
fn finished(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("E:"))
        .collect();
    Err(format!(
        "{name} failed ({}): {}. Is the network there?",
        output.status,
        if lines.is_empty() {
            errors.trim()
        } else {
            lines[0]
        }
    ))
}
