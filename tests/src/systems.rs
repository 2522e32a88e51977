//! Test systems that are the default system with other files to serve, or other applications.
//!
//! They are made from `system.xml` by replacing what differs, so that they never lag behind it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::files;

/// A system that is made from the default one.
struct Derived {
    name: &'static str,
    /// Memory of the machine in MiB.
    memory: u32,
    /// The folder of test files it serves.
    folder: &'static str,
    /// The application in the place of `http`, if it is another.
    application: Option<Application>,
    /// Whether the first application can be switched: then its address is its own.
    is_switched: bool,
    /// What else is in it, just before its end.
    more: fn() -> String,
}

/// An application without files.
#[derive(Clone, Copy)]
struct Application {
    /// Its name, of the protection domain and the frame channel.
    name: &'static str,
    program: &'static str,
    /// Its variables.
    variables: &'static str,
}

const KV: Application = Application {
    name: "kv",
    program: "segue-kv",
    variables: r#"<setvar symbol="listen_port" value="6379"/>"#,
};

const ECHO: Application = Application {
    name: "echo",
    program: "segue-echo-server",
    variables: r#"<setvar symbol="echo_port" value="7"/><setvar symbol="message_port" value="5002"/>"#,
};

const DERIVED: &[Derived] = &[
    Derived {
        name: "files",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: String::new,
    },
    Derived {
        name: "large",
        memory: 512,
        folder: "large",
        application: None,
        is_switched: false,
        more: String::new,
    },
    Derived {
        name: "rogue-application",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: rogue_application,
    },
    Derived {
        name: "kv",
        memory: 256,
        folder: "files",
        application: Some(KV),
        is_switched: false,
        more: String::new,
    },
    Derived {
        name: "echo",
        memory: 256,
        folder: "files",
        application: Some(ECHO),
        is_switched: false,
        more: String::new,
    },
    Derived {
        name: "metronome",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: true,
        more: metronome,
    },
    Derived {
        name: "switching",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: true,
        more: || [metronome(), kv_of_its_own()].concat(),
    },
    Derived {
        name: "bench",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: true,
        more: || [kv_of_its_own(), echo_of_its_own()].concat(),
    },
    Derived {
        name: "seven",
        memory: 768,
        folder: "files",
        application: None,
        is_switched: true,
        more: || (1..SWITCHED).map(switched_http).collect(),
    },
    Derived {
        name: "recovery",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: true,
        more: recovery,
    },
    Derived {
        name: "upgraded",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: true,
        more: recovery,
    },
    Derived {
        name: "outages",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: true,
        more: metronome,
    },
    Derived {
        name: "http-kv",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: second_kv,
    },
    Derived {
        name: "many",
        memory: 768,
        folder: "files",
        application: None,
        is_switched: false,
        more: || more_applications(APPLICATIONS),
    },
    Derived {
        name: "four",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: || more_applications(4),
    },
    Derived {
        name: "attacked",
        memory: 768,
        folder: "files",
        application: None,
        is_switched: false,
        more: || more_applications(APPLICATIONS) + &rogue_that_comes_back(),
    },
    Derived {
        name: "forty-eight",
        memory: 2048,
        folder: "files",
        application: None,
        is_switched: false,
        more: || more_applications(MOST_APPLICATIONS),
    },
    Derived {
        name: "visitors",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: false,
        more: visitors,
    },
    Derived {
        name: "addresses",
        memory: 512,
        folder: "files",
        application: None,
        is_switched: false,
        more: more_addresses,
    },
    Derived {
        name: "dhcp",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: dhcp_client,
    },
    Derived {
        name: "binder",
        memory: 256,
        folder: "files",
        application: None,
        is_switched: false,
        more: binder,
    },
];

/// Systems whose shared IPv4 address comes from a DHCP server.
const BY_DHCP: &[&str] = &["dhcp"];

/// Systems in which everybody can be made to fault, and is restarted at once, however often.
const FAULTY: &[&str] = &["recovery", "outages"];
/// As these, but that nobody can be made to fault, and the network server has other images.
pub const UPGRADED: &str = "upgraded";
/// Of these, those whose time counts instructions.
const CLOCKED: &[&str] = &["outages"];

/// The network server's images in the system `upgraded` besides its first: one like it, and some that
/// fail.
pub const NEXT_IMAGE: &str = "next";
/// See [`NEXT_IMAGE`].
pub const FAILING_IMAGES: [&str; 3] = ["panics", "loops", "waits"];

/// What a frame channel says about its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those of the default system's application.
    Shared,
    /// 10.0.2.n, fd00:5e60::n (both decimal to look at, as in 10.0.2.20 and fd00:5e60::20) and
    /// the MAC address 52:54:00:5e:61:n, nobody else's.
    Own(u8),
    /// 10.0.2.n and fd00:5e60::n, with the MAC address of the network server's function: its ports are
    /// bound at the port map.
    Server(u8),
    /// Out of the pool [`POOL`].
    Pool,
    /// As [`Place::Shared`], but that it asks for the IPv4 address by DHCP, for all.
    DhcpClient,
}

impl Place {
    /// The attributes of a `<frame_channel>`.
    pub fn attributes(self) -> String {
        match self {
            Self::Shared => concat!(
                r#"mac="nic.vf0" ipv4="10.0.2.15/24" gateway="10.0.2.2" "#,
                r#"ipv6="fd00:5e60::15/64" ipv6_gateway="fd00:5e60::2""#
            )
            .into(),
            Self::Own(number) => format!(
                r#"mac="52:54:00:5e:61:{number}" ipv4="10.0.2.{number}/24" gateway="10.0.2.2" ipv6="fd00:5e60::{number}/64" ipv6_gateway="fd00:5e60::2""#
            ),
            Self::Server(number) => format!(
                r#"mac="nic.vf0" ipv4="10.0.2.{number}/24" gateway="10.0.2.2" ipv6="fd00:5e60::{number}/64" ipv6_gateway="fd00:5e60::2""#
            ),
            Self::Pool => r#"address_pool="guests""#.into(),
            Self::DhcpClient => replace(&Self::Shared.attributes(), STATIC, BY_CLIENT)
                .unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

/// A pool of two: 10.0.2.32 and 10.0.2.33, fd00:5e60::32 and fd00:5e60::33.
pub const POOL: &str = r#"
    <address_pool name="guests" mac="52:54:00:5e:62:00" ipv4="10.0.2.32/24" gateway="10.0.2.2"
                  ipv6="fd00:5e60::32/64" ipv6_gateway="fd00:5e60::2" count="2"/>
"#;

/// The key-value server behind the address of the first application.
fn second_kv() -> String {
    let domain = r#"
    <protection_domain name="kv" priority="100" stack_size="0x10000">
        <program_image path="segue-kv"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>"#;
    format!(
        "{domain}{}{}",
        frame_channel("kv", "0x200000", 256, Place::Shared),
        timer_channel("kv", 5)
    )
}

/// What sends and counts numbered datagrams, at an address of its own, beside `http`. It has as much
/// of the processor as `http`, if both have work.
fn metronome() -> String {
    let domain = r#"
    <protection_domain name="metronome" priority="100" stack_size="0x10000">
        <program_image path="segue-metronome"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>"#;
    let place = Place::Own(crate::metronome::ADDRESS.octets()[3]);
    format!(
        "{domain}{}{}{}",
        frame_channel("metronome", "0x40000", 64, place),
        direct_mode("metronome"),
        timer_channel("metronome", 5)
    )
}

/// What lets an application be switched.
pub fn direct_mode(name: &str) -> String {
    format!(
        r#"
    <direct_mode application="{name}"/>"#
    )
}

/// The key-value server at an address of its own, [`KV_ADDRESS`].
fn kv_of_its_own() -> String {
    let domain = r#"
    <protection_domain name="kv" priority="100" stack_size="0x10000">
        <program_image path="segue-kv"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>"#;
    let place = Place::Own(KV_ADDRESS.octets()[3]);
    format!(
        "{domain}{}{}{}",
        frame_channel("kv", "0x200000", 256, place),
        direct_mode("kv"),
        timer_channel("kv", 6)
    )
}

/// The echo application at an address of its own, [`ECHO_ADDRESS`].
fn echo_of_its_own() -> String {
    let variables = ECHO.variables;
    let domain = format!(
        r#"
    <protection_domain name="echo" priority="100" stack_size="0x10000">
        <program_image path="segue-echo-server"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
        {variables}<setvar symbol="discard_port" value="9"/>
    </protection_domain>"#
    );
    let place = Place::Own(ECHO_ADDRESS.octets()[3]);
    [
        domain,
        frame_channel("echo", "0x200000", 256, place),
        direct_mode("echo"),
        timer_channel("echo", 7),
    ]
    .concat()
}

/// Where the echo application of the system `bench` is.
pub const ECHO_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);

/// Where the key-value server of the system `switching` is.
pub const KV_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 20);

/// What is at work in the system `recovery` beside `http`: the metronome, the key-value server, an HTTP
/// application that is to be switched to direct mode, and a job that does not use the network. Each
/// has an address of its own. Another HTTP application has its port from the port map, and who shares its
/// address visits `http` inside, from a port that is bound and freed each time.
fn recovery() -> String {
    let direct = DIRECT_ADDRESS.octets()[3];
    [
        metronome(),
        kv_of_its_own(),
        http(DIRECT, 3, 80, Place::Own(direct)),
        direct_mode(DIRECT),
        http(
            BOUND,
            4,
            BOUND_PORT,
            Place::Server(BOUND_ADDRESS.octets()[3]),
        ),
        visitor(
            VISITOR,
            9,
            100,
            Place::Server(BOUND_ADDRESS.octets()[3]),
            r#"<setvar symbol="only_host" value="15"/>"#,
        ),
        JOB_DOMAIN.into(),
    ]
    .concat()
}

/// The application of the system `recovery` that is to be in direct mode.
pub const DIRECT: &str = "http-direct";

/// Where it is.
pub const DIRECT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 53);

/// The application of the system `recovery` whose port is bound at the port map.
pub const BOUND: &str = "http-bound";

/// Where it is.
pub const BOUND_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 54);

/// Where it listens.
pub const BOUND_PORT: u16 = 81;

/// The application of the system `recovery` that visits `http` inside the machine.
pub const VISITOR: &str = "visitor";

/// The job of the system `recovery`: it counts.
pub const JOB: &str = "job";

/// Where the job sees its count.
pub const JOB_COUNT: u64 = 0x1000_0000;

const JOB_DOMAIN: &str = r#"
    <memory_region name="progress" size="0x1000"/>
    <protection_domain name="job" priority="100">
        <program_image path="segue-spinner"/>
        <map mr="progress" vaddr="0x10000000" perms="rw" setvar_vaddr="progress"/>
    </protection_domain>
"#;

/// The attribute `name="value"` in the start tag of a protection domain, in the place of the one that
/// it has, if it has one.
///
/// # Errors
/// If there is no such protection domain.
pub fn with_attribute(text: &str, domain: &str, name: &str, value: &str) -> Result<String, String> {
    let (before, rest) = cut(text, &format!("<protection_domain name=\"{domain}\""))?;
    let (tag, after) = cut(rest, ">")?;
    let tag = match tag.split_once(&format!(" {name}=\"")) {
        Some((first, second)) => {
            let (_, second) = cut(second, "\"")?;
            format!("{first}{second}")
        }
        None => tag.to_owned(),
    };
    Ok(format!(
        "{before}<protection_domain name=\"{domain}\" {name}=\"{value}\"{tag}>{after}"
    ))
}

/// The names of the protection domains in a description, in its order.
pub fn domains(text: &str) -> Vec<&str> {
    let names = text.split("<protection_domain name=\"").skip(1);
    names.filter_map(|rest| rest.split('"').next()).collect()
}

/// Milliseconds for which nobody may make no progress in the system `recovery`, where time is the host's:
/// a busy host can stop the machine for as long as servers may otherwise be silent.
const HEARTBEAT: &str = "500";
/// The same where the machine's time is instructions.
const HEARTBEAT_CLOCKED: &str = "20";
/// The same for applications, which serve many clients at once before they look up.
const HEARTBEAT_OF_APPLICATIONS: &str = "2000";

/// A description in which the network server has other images.
fn with_images(text: &str) -> Result<String, String> {
    let first = r#"<program_image path="segue-netserver"/>"#;
    let next = format!(r#"<alternative_image path="segue-netserver" name="{NEXT_IMAGE}"/>"#);
    let failing = FAILING_IMAGES
        .map(|name| format!(r#"<alternative_image path="segue-netserver-{name}" name="{name}"/>"#));
    replace(text, first, &format!("{first}{next}{}", failing.concat()))
}

/// A description in which everybody is restarted, at once and however often.
fn restarted(text: &str, is_clocked: bool) -> Result<String, String> {
    let names: Vec<String> = domains(text).into_iter().map(str::to_owned).collect();
    let policy = [
        ("restart", "on_fault"),
        ("restart_limit", "1000000"),
        ("restart_backoff_ms", "0"),
    ];
    let mut text = text.to_owned();
    for name in names.iter().filter(|name| *name != JOB) {
        for (attribute, value) in policy {
            text = with_attribute(&text, name, attribute, value)?;
        }
        let heartbeat =
            match ["http", "kv", "metronome", DIRECT, BOUND, VISITOR].contains(&name.as_str()) {
                true => HEARTBEAT_OF_APPLICATIONS,
                false if is_clocked => HEARTBEAT_CLOCKED,
                false => HEARTBEAT,
            };
        text = with_attribute(&text, name, "heartbeat_ms", heartbeat)?;
    }
    Ok(text)
}

/// Applications of the system `seven` that can be switched: with the network server's, all virtual
/// functions are in use then.
pub const SWITCHED: u16 = 6;

/// Where application `number` of the system `seven` is, at port 80: `http`, `http-1`, and so on.
pub fn address_of(number: u16) -> Ipv4Addr {
    let last = if number == 0 { 15 } else { 50 + number as u8 };
    Ipv4Addr::new(10, 0, 2, last)
}

/// One of its applications but the first.
fn switched_http(number: u16) -> String {
    let name = format!("http-{number}");
    let place = Place::Own(address_of(number).octets()[3]);
    http(&name, number, 80, place) + &direct_mode(&name)
}

/// A second application behind the address of the first.
fn rogue_application() -> String {
    let domain = r#"
    <protection_domain name="rogue-application" priority="100">
        <program_image path="segue-rogue-application"/>
    </protection_domain>"#;
    let channel = frame_channel("rogue-application", "0x40000", 64, Place::Shared);
    format!("{domain}{channel}")
}

/// It is restarted at once, however often it dies.
fn rogue_that_comes_back() -> String {
    let policy = r#"priority="100" restart="on_fault" restart_limit="1000000" restart_backoff_ms="0">
        <map mr="crashes" vaddr="0x30000000" perms="rw" setvar_vaddr="crashes"/>"#;
    let region = r#"
    <memory_region name="crashes" size="0x1000"/>"#;
    let rogue = replace(&rogue_application(), r#"priority="100">"#, policy);
    region.to_owned() + &rogue.unwrap_or_else(|error| panic!("{error}"))
}

/// What asks for the shared address.
fn dhcp_client() -> String {
    let domain = r#"
    <protection_domain name="dhcp" priority="100" stack_size="0x10000">
        <program_image path="segue-dhcp"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>"#;
    let channel = frame_channel("dhcp", "0x40000", 64, Place::DhcpClient);
    format!("{domain}{channel}{}", timer_channel("dhcp", 5))
}

/// What binds and releases, and reads the port map's tables. It runs when the other application
/// has bound what it binds.
fn binder() -> String {
    let domain = r#"
    <protection_domain name="binder" priority="90">
        <program_image path="segue-binder"/>
        <map mr="port_table" vaddr="0x10000000" perms="r" setvar_vaddr="port_table"/>
    </protection_domain>"#;
    let channel = frame_channel("binder", "0x40000", 64, Place::Shared);
    format!("{domain}{channel}")
}

/// Applications of the system `many`, which share an address: the one at port 80
/// plus *n* is called `http-n`, the first one `http`.
pub const APPLICATIONS: u16 = 16;

/// Applications of the system `forty-eight`.
pub const MOST_APPLICATIONS: u16 = 48;

/// All but the first of `count` applications, which share its address.
pub fn more_applications(count: u16) -> String {
    let application = |number| {
        http(
            &format!("http-{number}"),
            number,
            80 + number,
            Place::Shared,
        )
    };
    (1..count).map(application).collect()
}

/// The system `addresses`: `http` and `http-1` (port 81) share the address of the default system,
/// `http-own` and `http-guest` have port 80 of addresses of their own, the one of its own by name,
/// the other out of the pool.
fn more_addresses() -> String {
    [
        POOL.into(),
        http("http-1", 1, 81, Place::Shared),
        http("http-own", 2, 80, Place::Own(20)),
        http("http-guest", 3, 80, Place::Pool),
        direct_mode("http-own"),
        direct_mode("http-guest"),
    ]
    .concat()
}

/// The system `visitors`: applications at addresses of all sorts, and two that visit them.
fn visitors() -> String {
    [
        more_addresses(),
        visitor("visitor", 10, 90, Place::Shared, ""),
        visitor("visitor-own", 11, 90, Place::Own(21), ""),
    ]
    .concat()
}

/// Who visits others, with this priority, and what else is in its description.
fn visitor(name: &str, timer: u16, priority: u8, place: Place, more: &str) -> String {
    let domain = format!(
        r#"
    <protection_domain name="{name}" priority="{priority}" stack_size="0x10000">
        <program_image path="segue-visitor"/>{more}
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>"#
    );
    let channel = frame_channel(name, "0x40000", 64, place);
    format!("{domain}{channel}{}", timer_channel(name, timer))
}

/// An HTTP application besides the first one, the `number`-th, at a port of its place.
pub fn http(name: &str, number: u16, port: u16, place: Place) -> String {
    let domain = format!(
        r#"
    <protection_domain name="{name}" priority="100" stack_size="0x10000">
        <program_image path="segue-http"/>
        <map mr="http_files" vaddr="0x10000000" perms="r" setvar_vaddr="files" setvar_size="files_size"/>
        <map mr="system_status" vaddr="0x20000000" perms="r" setvar_vaddr="system_status"/>
        <map mr="network_status" vaddr="0x21000000" perms="r" setvar_vaddr="network_status"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
        <setvar symbol="listen_port" value="{port}"/>
    </protection_domain>"#
    );
    let channel = frame_channel(name, "0x40000", 64, place);
    format!("{domain}{channel}{}", timer_channel(name, 4 + number))
}

/// An application's way to the network server.
pub fn frame_channel(name: &str, pool_size: &str, entries: u16, place: Place) -> String {
    format!(
        r#"
    <frame_channel server="netserver" client="{name}" portmap="portmap" io_address_space="netserver_io"
                   pool_size="{pool_size}" transmit_entries="{entries}" receive_entries="{entries}"
                   {}/>"#,
        place.attributes()
    )
}

/// An application's way to timeouts; `id` is free in `timer`: 5 to 58.
pub fn timer_channel(name: &str, id: u16) -> String {
    format!(
        r#"
    <channel><end pd="{name}" id="1" pp="true" setvar_id="timer_channel"/><end pd="timer" id="{id}"/></channel>
"#
    )
}

/// The shared IPv4 address, and what stands there instead if it comes from a DHCP server: for who
/// asks for it, and for the others.
const STATIC: &str = r#"ipv4="10.0.2.15/24" gateway="10.0.2.2""#;
const BY_CLIENT: &str = r#"ipv4="dhcp" dhcp_client="true""#;
const BY_OTHERS: &str = r#"ipv4="dhcp""#;
/// The first application's own MAC address, and the one that others can share.
const OWN_MAC: &str = r#"mac="52:54:00:5e:61:15""#;
const SHARED_MAC: &str = r#"mac="nic.vf0""#;
/// What lets it be switched, which needs a MAC address of its own.
const DIRECT_MODE: &str = r#"<direct_mode application="http"/>"#;
const MEMORY: &str = "<machine memory=\"256M\"/>";
const FOLDER: &str = "apps/http/files";
const END: &str = "</system>";

/// Writes test files to `build/test-files` and descriptions to `build/test-systems`.
///
/// # Errors
/// A sentence: a file cannot be written, or the default system has changed its form.
pub fn write_all(root: &Path) -> Result<(), String> {
    let test_files = root.join("build/test-files");
    files::write_all(&test_files).map_err(|error| format!("{}: {error}", test_files.display()))?;
    for (folder, _) in files::FILES {
        copy_site(&root.join(FOLDER), &test_files.join(folder))?;
    }
    let source = root.join("system.xml");
    let text =
        fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let folder = root.join("build/test-systems");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for system in DERIVED {
        let memory = format!("<machine memory=\"{}M\"/>", system.memory);
        let files = format!("../test-files/{}", system.folder);
        let text = replace(&replace(&text, MEMORY, &memory)?, FOLDER, &files)?;
        let text = match system.is_switched {
            true => text,
            // All share the address of the network server's function.
            false => replace(&replace(&text, OWN_MAC, SHARED_MAC)?, DIRECT_MODE, "")?,
        };
        let text = if BY_DHCP.contains(&system.name) {
            replace(&text, STATIC, BY_OTHERS)?
        } else {
            text
        };
        let text = match system.application {
            Some(application) => application.instead_of_http(&text)?,
            None => text,
        };
        let text = replace(&text, END, &format!("{}{END}", (system.more)()))?;
        let is_clocked = CLOCKED.contains(&system.name);
        let text = match (FAULTY.contains(&system.name), system.name == UPGRADED) {
            (true, _) => restarted(
                &replace(&text, END, &format!("    <fault_injection/>\n{END}"))?,
                is_clocked,
            )?,
            (_, true) => restarted(&with_images(&text)?, is_clocked)?,
            _ => text,
        };
        write_if_changed(&folder.join(format!("{}.xml", system.name)), &text)?;
    }
    Ok(())
}

impl Application {
    /// The system with this application alone, in the place of `http`.
    fn instead_of_http(&self, text: &str) -> Result<String, String> {
        let Self {
            name,
            program,
            variables,
        } = self;
        let domain = format!(
            r#"<protection_domain name="{name}" priority="100" stack_size="0x10000">
        <program_image path="{program}"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
        {variables}
    </protection_domain>"#
        );
        let (before, rest) = cut(text, "<protection_domain name=\"http\"")?;
        let (_, after) = cut(rest, "</protection_domain>")?;
        let text = format!("{before}{domain}{after}");
        let text = replace(&text, "client=\"http\"", &format!("client=\"{name}\""))?;
        let text = replace(&text, "<end pd=\"http\"", &format!("<end pd=\"{name}\""))?;
        let (before, rest) = cut(&text, "<memory_region name=\"http_files\"")?;
        let (_, after) = cut(rest, "/>")?;
        Ok(format!("{before}{after}"))
    }
}

/// What stands before and after the first `at`.
fn cut<'a>(text: &'a str, at: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(at)
        .ok_or_else(|| format!("system.xml has no `{at}`: adapt tests/src/systems.rs"))
}

/// The page for people is part of every system.
fn copy_site(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", from.display());
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}

fn write_if_changed(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Replaces the one place where `from` stands.
fn replace(text: &str, from: &str, to: &str) -> Result<String, String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        count => Err(format!(
            "system.xml has `{from}` {count} times, not once: adapt tests/src/systems.rs"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_addresses_are_those_of_the_default_system() {
        let text = fs::read_to_string(crate::paths::description("system")).unwrap();
        let text = replace(&text, OWN_MAC, SHARED_MAC).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&text).contains(&Place::Shared.attributes()));
    }

    #[test]
    fn attributes_are_replaced_or_added() {
        let text = r#"<system><protection_domain name="a" priority="1" restart="never"><x/></protection_domain>
<protection_domain name="ab" priority="2"/></system>"#;
        assert_eq!(domains(text), ["a", "ab"]);
        let text = with_attribute(text, "a", "restart", "always").unwrap();
        let text = with_attribute(&text, "ab", "restart", "on_fault").unwrap();
        let tags: Vec<&str> = text.matches("restart=").collect();
        assert_eq!(tags.len(), 2, "{text}");
        assert!(text.contains(r#"<protection_domain name="a" restart="always" priority="1">"#));
        assert!(text.contains(r#"<protection_domain name="ab" restart="on_fault" priority="2"/>"#));
        assert!(with_attribute(&text, "b", "restart", "always").is_err());
    }

    #[test]
    fn what_is_replaced_stands_once() {
        assert_eq!(replace("a b c", "b", "d").unwrap(), "a d c");
        assert!(replace("a b b", "b", "d").is_err());
        assert!(replace("a", "b", "d").is_err());
    }
}
