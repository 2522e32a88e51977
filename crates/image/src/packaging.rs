//! The command's part for packages: files of keys, and what is told to people.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use segue_image::back_end::package::{self, Wanted};
use segue_image::back_end::write_atomically;
use segue_image::model::PdIndex;
use segue_image::{hexadecimal_bytes, show_hexadecimal};
use segue_upgrade_package::write::public_key;

use crate::{Failure, Inputs, PackageArguments, kibibytes, other, parse};

/// Makes a package.
pub(crate) fn package(inputs: &Inputs, arguments: &PackageArguments) -> Result<(), Failure> {
    let private_key = private_key(&arguments.key)?;
    let system = parse(inputs)?.system;
    let domains = &system.protection_domains;
    let found = domains
        .iter()
        .position(|domain| domain.name == arguments.domain);
    let domain = found.ok_or_else(|| {
        let places = domains.iter().filter(|domain| {
            let mut images = domain.images.iter();
            images.any(|image| image.program.is_none())
        });
        let names: Vec<&str> = places.map(|domain| domain.name.as_str()).collect();
        let known = match names.is_empty() {
            true => "nobody in this system can be sent a program".into(),
            false => format!("who can be sent a program is {}", names.join(", ")),
        };
        let name = &arguments.domain;
        Failure::Other(format!("there is no protection domain \"{name}\": {known}"))
    })?;
    let name = arguments.program.file_name().unwrap_or_default();
    let label = match &arguments.label {
        Some(label) => label.clone(),
        // As long as there is room for.
        None => name.to_string_lossy().chars().take(31).collect(),
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = seconds.map_or(0, |seconds| seconds.as_secs());
    let serial = arguments.serial.unwrap_or(now);
    let wanted = Wanted {
        domain: PdIndex(domain),
        program: &arguments.program,
        label: &label,
        serial,
        private_key: &private_key,
    };
    if let Some(updater) = system.updater
        && updater.public_key != public_key(&private_key)
    {
        eprintln!(
            "segue-image: warning: {} is not the key that this system believes",
            arguments.key.display()
        );
    }
    let bytes = package::package(&system, &wanted)
        .map_err(|problem| Failure::Other(problem.to_string()))?;
    let output = &arguments.output;
    write_atomically(output, &bytes)
        .map_err(|error| other(format!("cannot write {}", output.display()), error))?;
    println!(
        "{}: {}, {label} for {}, serial number {serial}",
        output.display(),
        kibibytes(bytes.len() as u64),
        arguments.domain
    );
    Ok(())
}

/// Makes a pair of keys.
pub(crate) fn make_key(path: &Path) -> Result<(), Failure> {
    let mut key = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut key))
        .map_err(|error| other("there are no random numbers".into(), error))?;
    let mut public_path = path.as_os_str().to_os_string();
    public_path.push(".pub");
    let public_path = Path::new(&public_path);
    let cannot = |path: &Path, error| other(format!("cannot write {}", path.display()), error);
    // A key that is there already may be the only one that a machine believes.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot(path, error))?;
    writeln!(file, "{}", show_hexadecimal(&key)).map_err(|error| cannot(path, error))?;
    let public = show_hexadecimal(&public_key(&key));
    fs::write(public_path, format!("{public}\n")).map_err(|error| cannot(public_path, error))?;
    println!(
        "{}: keep it secret\n{}: for public_key=\"...\" of <updater>",
        path.display(),
        public_path.display()
    );
    Ok(())
}

fn private_key(path: &Path) -> Result<[u8; 32], Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| other(format!("cannot read {}", path.display()), error))?;
    hexadecimal_bytes(text.trim()).ok_or_else(|| {
        Failure::Other(format!(
            "{} is no private key: --make-key makes one",
            path.display()
        ))
    })
}
