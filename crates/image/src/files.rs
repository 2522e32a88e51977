//! Where programs and the contents of regions come from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the front end reads besides the description itself. Reasons for a
/// failure are ends of a sentence, such as `is not there`.
pub trait Files {
    /// The program at `path`: where it was found, and its bytes.
    fn program(&self, path: &str) -> Result<(PathBuf, Vec<u8>), String>;
    /// The file at `path`.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;
    /// All files below the directory at `path`, as path inside it and bytes, in
    /// the order of their paths.
    fn directory(&self, path: &str) -> Result<Vec<(String, Vec<u8>)>, String>;
}

/// There are no files: for tests and fuzzers.
pub struct NoFiles;

impl Files for NoFiles {
    fn program(&self, _: &str) -> Result<(PathBuf, Vec<u8>), String> {
        Err("is not there".into())
    }
    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("is not there".into())
    }
    fn directory(&self, _: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        Err("is not there".into())
    }
}

/// Files of this machine.
pub struct DiskFiles {
    /// Where programs are looked for first.
    pub programs: PathBuf,
    /// The folder of the description, where everything else is looked for.
    pub base: PathBuf,
}

/// Most bytes of one file: all of them go into the machine's memory.
const LARGEST_FILE: u64 = 1 << 30;

impl Files for DiskFiles {
    fn program(&self, path: &str) -> Result<(PathBuf, Vec<u8>), String> {
        let built = self.programs.join(path);
        let place = if built.is_file() {
            built
        } else {
            let beside = self.base.join(path);
            if !beside.is_file() {
                return Err(format!(
                    "is neither in {} nor in {}",
                    show_directory(&self.programs),
                    show_directory(&self.base)
                ));
            }
            beside
        };
        let bytes = read(&place)?;
        Ok((place, bytes))
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        read(&self.beside(path)?)
    }

    fn directory(&self, path: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut found = Vec::new();
        collect(&self.beside(path)?, "", &mut found)?;
        found.sort();
        Ok(found)
    }
}

impl DiskFiles {
    /// Where `path` is, if there is something.
    fn beside(&self, path: &str) -> Result<PathBuf, String> {
        let place = self.base.join(path);
        if place.try_exists().is_ok_and(|exists| !exists) {
            return Err(format!(
                "is not in {}, the folder of the description: put it there, or correct the path",
                show_directory(&self.base)
            ));
        }
        Ok(place)
    }
}

fn show_directory(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => ".".into(),
        false => path.display().to_string(),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "is not there".into(),
        ErrorKind::PermissionDenied => "may not be read".into(),
        _ => format!("cannot be read: {error}"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("is a directory".into());
    }
    if !metadata.is_file() {
        return Err("is not an ordinary file".into());
    }
    if metadata.len() > LARGEST_FILE {
        return Err("is larger than 1 GiB".into());
    }
    std::fs::read(path).map_err(|error| reason(&error))
}

fn collect(
    directory: &Path,
    prefix: &str,
    found: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), String> {
    let entries = std::fs::read_dir(directory).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory => "is not a directory".into(),
        _ => reason(&error),
    })?;
    for entry in entries {
        let entry = entry.map_err(|error| reason(&error))?;
        let Ok(name) = entry.file_name().into_string() else {
            let name = entry.file_name();
            return Err(format!(
                "holds a name that is not UTF-8: {prefix}{}",
                name.display()
            ));
        };
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(|error| reason(&error))?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() {
            let bytes = read(&entry.path()).map_err(|why| format!("holds {path}, which {why}"))?;
            found.push((path, bytes));
        } else {
            return Err(format!(
                "holds {path}, which is neither a file nor a directory"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("segue-image-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(path.join("site/deep")).unwrap();
            Folder(path)
        }

        fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) {
            std::fs::write(self.0.join(path), bytes).unwrap();
        }

        fn files(&self) -> DiskFiles {
            DiskFiles {
                programs: self.0.join("deep"),
                base: self.0.clone(),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_paths() {
        let folder = Folder::new("order");
        folder.write("site/b", b"2");
        folder.write("site/deep/x", b"3");
        folder.write("site/a", b"1");
        let found = folder.files().directory("site").unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "deep/x"]);
        assert_eq!(found[2].1, b"3");
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let folder = Folder::new("odd");
        folder.write("plain", b"");
        let files = folder.files();
        let directory = |path| files.directory(path).unwrap_err();
        let absent = directory("absent");
        assert!(absent.starts_with("is not in "), "{absent}");
        assert_eq!(directory("plain"), "is not a directory");
        symlink("/etc/passwd", folder.0.join("site/deep/link")).unwrap();
        assert_eq!(
            directory("site"),
            "holds deep/link, which is neither a file nor a directory"
        );
        std::fs::remove_file(folder.0.join("site/deep/link")).unwrap();
        folder.write(Path::new("site").join(OsStr::from_bytes(b"\xff")), b"");
        assert!(directory("site").starts_with("holds a name that is not UTF-8: "));
    }

    #[test]
    fn a_program_is_looked_for_in_both_folders() {
        let folder = Folder::new("program");
        folder.write("site/program", b"beside");
        let files = folder.files();
        let (place, bytes) = files.program("site/program").unwrap();
        assert_eq!(
            (place, bytes),
            (folder.0.join("site/program"), b"beside".to_vec())
        );
        let missing = files.program("program").unwrap_err();
        assert!(missing.starts_with("is neither in "), "{missing}");
        assert_eq!(files.file("site").unwrap_err(), "is a directory");
        let absent = files.file("absent").unwrap_err();
        assert!(
            absent.contains(", the folder of the description: "),
            "{absent}"
        );
    }
}
