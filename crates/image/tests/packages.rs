//! Packages that the command `segue-image` makes, and the keys that they are signed with.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use segue_upgrade_package::{PAGE_SIZE, Package, verified};
use support::{DATA, program, raw_program};

const PLACE: u64 = 0x10_0000;

const SYSTEM: &str = r#"<system>
    <machine memory="64M"/>
    <memory_region name="shared" size="0x1000"/>
    <protection_domain name="server" priority="9">
        <program_image path="server"/><sent_image size="0x100000"/>
        <map mr="shared" vaddr="0x1000000" setvar_vaddr="x"/>
        <setvar symbol="y" value="77"/>
    </protection_domain>
    <protection_domain name="client" priority="8">
        <program_image path="server"/>
        <map mr="shared" vaddr="0x1000000" perms="r" setvar_vaddr="x"/>
    </protection_domain>
    <protection_domain name="updater" priority="7"><program_image path="updater"/></protection_domain>
    <channel><end pd="client" id="1" pp="true"/><end pd="server" id="2"/></channel>
    <updater pd="updater" public_key="signing.key.pub" serial="5"/>
</system>"#;

/// A folder of a test's own, with the system, its programs and a pair of keys in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.put("system.xml", SYSTEM.as_bytes());
        folder.put("server", &program(&[("x", 8), ("y", 8)]));
        folder.put("next", &program(&[("other", 16), ("y", 8), ("x", 8)]));
        folder.put("updater", &program(&support::UPDATER_VARIABLES));
        folder.put("segue-init", &raw_program(&[("payload_location", 24)]));
        assert_eq!(errors(&folder.make_key()), "");
        folder
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_segue-image"))
            .current_dir(&self.0)
            .args(arguments)
            .output()
            .unwrap()
    }

    fn make_key(&self) -> Output {
        self.run(&["--make-key", "signing.key"])
    }

    fn with_system(&self, arguments: &[&str]) -> Output {
        self.run(&[&["--system", "system.xml", "--programs", "."], arguments].concat())
    }

    /// Makes a package of `program`; with `more` options.
    fn package(&self, program: &str, more: &[&str]) -> Output {
        let arguments = ["--package", "server", "--program", program];
        let files = ["--key", "signing.key", "--output", "package"];
        self.with_system(&[&arguments[..], &files[..], more].concat())
    }

    /// What a package of `program` says that it was built for.
    fn built_for(&self, program: &str) -> [u8; 32] {
        assert_eq!(errors(&self.package(program, &[])), "");
        let bytes = self.read("package");
        let signed = &bytes[..bytes.len() - 64];
        Package::read(signed, PLACE).unwrap().header.built_for
    }

    fn public_key(&self) -> [u8; 32] {
        let text = String::from_utf8(self.read("signing.key.pub")).unwrap();
        segue_image::hexadecimal_bytes(text.trim()).unwrap()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_package_holds_the_program_as_it_is_configured() {
    let folder = Folder::new("package-program");
    let output = folder.package("next", &["--label", "the next", "--serial", "9"]);
    assert_eq!(errors(&output), "");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "package: 13 KiB, the next for server, serial number 9\n"
    );
    let bytes = folder.read("package");
    let signed = verified(&bytes, &folder.public_key()).expect("the signature is valid");
    let package = Package::read(signed, PLACE).expect("a package");
    assert_eq!(package.header.domain(), "server");
    assert_eq!(package.header.label(), "the next");
    assert_eq!(
        (package.header.serial, package.header.entry),
        (9, support::CODE)
    );
    let pages: Vec<_> = package.pages().collect();
    assert_eq!(pages.len(), 2);
    let (data, bytes) = pages[1];
    assert_eq!((data.address, data.is_writable), (DATA, true));
    // Behind what each program has: 16 bytes, y, x.
    let bytes: &[u8; PAGE_SIZE] = bytes.expect("not zero");
    let names = support::RUNTIME.iter();
    let before: u64 = names.map(|(_, size)| size.next_multiple_of(8)).sum();
    let word = |place: u64| u64::from_le_bytes(bytes[place as usize..][..8].try_into().unwrap());
    assert_eq!(word(before + 16), 77);
    assert_eq!(word(before + 24), 0x100_0000);
    assert_eq!(&bytes[..7], b"server\0");
}

#[test]
fn the_updater_knows_what_packages_must_have_been_built_for() {
    let folder = Folder::new("package-built-for");
    let honest = folder.built_for("server");
    assert_eq!(errors(&folder.with_system(&["--output", "image"])), "");
    let image = folder.read("image/image.elf");
    let holds = |bytes: &[u8]| image.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&honest) && holds(&folder.public_key()));
    let report = String::from_utf8(folder.read("image/report.txt")).unwrap();
    assert!(report.contains("takes packages for server\n"), "{report}");
    assert!(report.contains("serial numbers above 5\n"), "{report}");
    // The same for another program, and whatever others are.
    assert_eq!(folder.built_for("next"), honest);
    let changed = |from: &str, to: &str| {
        assert_eq!(SYSTEM.matches(from).count(), 1, "{from}");
        folder.put("system.xml", SYSTEM.replace(from, to).as_bytes());
        folder.built_for("server")
    };
    assert_eq!(
        changed(r#"perms="r" setvar_vaddr="x""#, r#"perms="r""#),
        honest
    );
    assert_eq!(
        changed(
            r#"name="updater" priority="7""#,
            r#"name="updater" priority="6""#
        ),
        honest
    );
    for (from, to) in [
        (r#"vaddr="0x1000000" setvar"#, r#"vaddr="0x2000000" setvar"#),
        (r#"value="77""#, r#"value="78""#),
        (
            r#"name="server" priority="9""#,
            r#"name="server" priority="9" stack_size="0x4000""#,
        ),
        (r#"size="0x1000"/>"#, r#"size="0x2000"/>"#),
        (r#"id="1" pp="true""#, r#"id="1""#),
        (r#"id="2"/>"#, r#"id="3"/>"#),
    ] {
        assert_ne!(changed(from, to), honest, "{to}");
    }
}

#[test]
fn what_cannot_be_a_package_is_refused_with_a_sentence() {
    let folder = Folder::new("package-mistakes");
    let refused = |output: Output, sentence: &str| {
        let said = errors(&output);
        assert!(said.contains(sentence), "{said}");
        assert_eq!(output.status.code(), Some(2));
        assert!(!folder.0.join("package").exists());
    };
    let package = |program, more: &[&str]| folder.package(program, more);
    refused(package("absent", &[]), "absent cannot be read");
    folder.put("text", b"hello");
    refused(package("text", &[]), "text is not a 64-bit ELF file");
    folder.put("plain", &program(&[("x", 8)]));
    refused(
        package("plain", &[]),
        "plain has no symbol y: it is not one for \"server\"",
    );
    let mut large = vec![("x", 8), ("y", 8)];
    large.push(("more", PLACE));
    folder.put("large", &program(&large));
    refused(
        package("large", &[]),
        "large makes no package: the package has a page at",
    );
    let long = "l".repeat(32);
    refused(package("next", &["--label", &long]), "a name is too long");
    refused(
        package("next", &["--label", "\u{e9}"]),
        "a name in the package is not a name",
    );
    refused(
        package("next", &["--serial", "x"]),
        "--serial x is not a number",
    );
    folder.put("other.key", b"7f7f");
    refused(
        package("next", &["--key", "other.key"]),
        "other.key is no private key",
    );
    refused(
        package("next", &["--package", "sever"]),
        "there is no protection domain \"sever\": who can be sent a program is server",
    );
    refused(
        package("next", &["--package", "client"]),
        "\"client\" has no place for a program",
    );
    refused(
        folder.with_system(&["--package", "server", "--key", "k", "--output", "package"]),
        "--program is missing",
    );
    refused(
        folder.with_system(&["--serial", "3", "--output", "package"]),
        "--serial belongs to --package, which is missing",
    );
    // A key that is there is never overwritten.
    let key = folder.read("signing.key");
    refused(folder.make_key(), "cannot write signing.key");
    assert_eq!(folder.read("signing.key"), key);
    // Another key than that of the description makes a package, but is mentioned.
    folder.run(&["--make-key", "stranger.key"]);
    let said = errors(&package("next", &["--key", "stranger.key"]));
    assert!(
        said.contains("stranger.key is not the key that this system believes"),
        "{said}"
    );
}
