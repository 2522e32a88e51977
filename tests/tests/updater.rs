//! Programs that are sent to the machine: a signed one takes the place of the network server while
//! downloads go on; whatever else comes is refused or taken back.

use std::io;
use std::net::SocketAddrV4;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use segue_image::back_end::package::{Wanted, package};
use segue_image::model::PdIndex;
use segue_system_tests::background::Downloads;
use segue_system_tests::changed::{Changed, OwnImage};
use segue_system_tests::http::{Client, Response, request};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::systems::{self, Place};
use segue_system_tests::{Cable, TestMachine};
use segue_upgrade_package::write::{public_key, sign};

/// Longer than an upgrade takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);
const PORT: u16 = 8081;
const PRIVATE_KEY: [u8; 32] = *b"the private key of this test ...";
/// Downloads at once, and of which file.
const DOWNLOADS: usize = 8;
const FILE: &str = "128k.bin";

/// The default application behind the shared address, an updater beside it, a place for another network
/// server, and `mortal`, which can be replaced by programs that do not work.
struct Site {
    described: Changed,
    image: OwnImage,
}

impl Site {
    fn new(name: &str, change: impl FnOnce(String) -> String) -> Self {
        let described = Changed::new("files", |text| change(with_updater(&text)));
        let image = OwnImage::new(name, &described.image().bytes);
        Self { described, image }
    }

    fn boot(&self, cable: Cable) -> TestMachine {
        let mut machine = TestMachine::start(self.image.machine(), cable);
        machine.wait_until_it_answers();
        machine.expect_line("updater: listening on 10.0.2.15:8081");
        if let Some(peer) = machine.host().peer() {
            peer.keep_alive(true);
        }
        machine
    }

    fn domain(&self, name: &str) -> PdIndex {
        let mut domains = self.described.system.protection_domains.iter();
        PdIndex(
            domains
                .position(|domain| domain.name == name)
                .expect("it is described"),
        )
    }

    fn package(&self, domain: &str, program: &str, serial: u64) -> Vec<u8> {
        let wanted = Wanted {
            domain: self.domain(domain),
            program: &self.described.programs.join(program),
            label: program,
            serial,
            private_key: &PRIVATE_KEY,
        };
        package(&self.described.system, &wanted).unwrap_or_else(|problem| panic!("{problem}"))
    }
}

fn with_updater(text: &str) -> String {
    let program = r#"<program_image path="segue-netserver"/>"#;
    assert!(text.contains(program), "adapt this test");
    let key: String = public_key(&PRIVATE_KEY)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let domains = format!(
        r#"
    <protection_domain name="updater" priority="90" stack_size="0x20000" restart="on_fault">
        <program_image path="segue-updater"/>
        <map mr="system_status" vaddr="0x20000000" perms="r" setvar_vaddr="system_status"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>
    <protection_domain name="mortal" priority="80" restart="always" heartbeat_ms="400">
        <program_image path="segue-mortal"/>
        <sent_image size="0x40000"/>
    </protection_domain>
    <updater pd="updater" public_key="{key}" serial="100"/>"#
    );
    let channel = systems::frame_channel("updater", "0x40000", 64, Place::Shared);
    let timer = systems::timer_channel("updater", 30);
    // On a busy host nothing gets on for longer than the description's heartbeats allow.
    let mut parts = text.split("heartbeat_ms=\"");
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('"').expect("an attribute ends");
        format!("{text}heartbeat_ms=\"5000\"{rest}")
    });
    text.replace(
        program,
        &format!(r#"{program}<sent_image size="0x100000"/>"#),
    )
    .replace("</system>", &format!("{domains}{channel}{timer}</system>"))
}

/// Sends a package and waits for the answer.
fn put(machine: &TestMachine, domain: &str, body: &[u8]) -> io::Result<Response> {
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let mut client = Client::new(peer.connect(PORT)?);
    let fields = format!("Content-Length: {}\r\n", body.len());
    client.send(request("PUT", &format!("/upgrade/{domain}"), &fields).as_bytes())?;
    client.send(body)?;
    client.response()
}

/// The status code and the sentence for a package.
fn answer(machine: &TestMachine, domain: &str, body: &[u8]) -> (u16, String) {
    let answer = put(machine, domain, body).unwrap_or_else(|error| panic!("{domain}: {error}"));
    text(&answer)
}

fn text(answer: &Response) -> (u16, String) {
    (
        answer.status,
        String::from_utf8_lossy(&answer.body).trim_end().into(),
    )
}

/// How often a line of the console holds `text`.
fn lines(machine: &TestMachine, text: &str) -> usize {
    let lines = machine.console().lines();
    lines.iter().filter(|line| line.text.contains(text)).count()
}

#[test]
fn a_network_server_is_sent_while_downloads_go_on() {
    let site = Site::new("updater-sent", |text| text);
    let machine = site.boot(Cable::Peer(1));
    let server = SocketAddrV4::new([10, 0, 2, 15].into(), 80);
    let downloads = Downloads::start(machine.host(), server, FILE, DOWNLOADS);
    let downloads = downloads.expect("connections");
    for serial in 101..=104 {
        assert!(
            downloads.wait_for(downloads.completed() + 16),
            "downloads have ended"
        );
        let package = site.package("netserver", "segue-netserver", serial);
        let expected =
            format!("netserver was upgraded to segue-netserver (serial number {serial}).");
        assert_eq!(answer(&machine, "netserver", &package), (200, expected));
    }
    assert!(
        downloads.wait_for(downloads.completed() + 32),
        "downloads have ended"
    );
    let found = downloads.stop();
    assert_eq!(found.failures, Vec::<String>::new());
    assert_eq!((found.resets, found.wrong, found.broken), (0, 0, 0));
    machine.expect_line("updater: netserver was upgraded to segue-netserver");
}

#[test]
fn what_is_not_signed_for_this_system_is_refused() {
    let site = Site::new("updater-refused", |text| text);
    let other = Site::new("updater-other", |text| {
        // The network server's table of applications is another one.
        text.replace(
            r#"pool_size="0x40000" transmit_entries="64""#,
            r#"pool_size="0x40000" transmit_entries="32""#,
        )
    });
    let machine = site.boot(Cable::Peer(2));
    let good = site.package("netserver", "segue-netserver", 101);
    let signed = &good[..good.len() - 64];
    let not_signed = "The package is not signed with the key of this machine: nothing was done.";
    let expect = |domain, body: &[u8], status, sentence: &str| {
        let found = answer(&machine, domain, body);
        assert!(found.0 == status && found.1.contains(sentence), "{found:?}");
    };
    for bit in [8 * 20, 8 * 5000 + 1, 8 * good.len() - 3] {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        expect("netserver", &changed, 403, not_signed);
    }
    let mut by_another = signed.to_vec();
    sign(&mut by_another, &[1; 32]);
    expect("netserver", &by_another, 403, not_signed);
    expect("netserver", signed, 403, not_signed);
    expect("netserver", &good[..good.len() - 4096], 403, not_signed);
    let mut cut = signed[..signed.len() - 4096].to_vec();
    sign(&mut cut, &PRIVATE_KEY);
    expect("netserver", &cut, 422, "its page records say");
    let elsewhere = other.package("netserver", "segue-netserver", 101);
    expect("netserver", &elsewhere, 422, "built for another system");
    let mortal = site.package("mortal", "segue-mortal", 101);
    expect("netserver", &mortal, 422, "The package is for \"mortal\"");
    let old = site.package("netserver", "segue-netserver", 100);
    expect("netserver", &old, 409, "a higher one than 100 is needed");
    expect(
        "http",
        &good,
        404,
        "what can be upgraded is netserver, mortal.",
    );

    let peer = machine.host().peer().expect("the cable leads to a peer");
    let begun = |fields: &str, body: &[u8]| {
        let mut client = Client::new(peer.connect(PORT).expect("a connection"));
        let head = request("PUT", "/upgrade/netserver", fields);
        client.send(head.as_bytes()).expect("a connection");
        client.send(body).expect("a connection");
        client
    };
    let refused = |mut client: Client<_>, status, sentence: &str| {
        let found = text(&client.response().expect("an answer"));
        assert!(found.0 == status && found.1.contains(sentence), "{found:?}");
    };
    refused(
        begun("Content-Length: 99999999\r\n", &good),
        413,
        "there is room for",
    );
    refused(
        begun("Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        411,
        "Content-Length",
    );
    // One that stops in the middle, while another one is sent.
    let length = format!("Content-Length: {}\r\n", good.len());
    let slow = begun(&length, &good[..good.len() / 2]);
    expect("netserver", &good, 503, "Another upgrade is under way");
    refused(
        slow,
        408,
        "The package did not arrive in time: nothing was done.",
    );
    // One that goes away in the middle.
    drop(begun(&length, &good[..good.len() / 2]));

    let overview = Client::new(peer.connect(PORT).expect("a connection")).get("/upgrade");
    let (status, overview) = text(&overview.expect("an answer"));
    assert!(
        status == 200 && overview.contains("netserver: packages with a serial number above 100"),
        "{overview}"
    );
    assert_eq!(lines(&machine, "was upgraded to"), 0);
    assert_eq!(lines(&machine, "was rolled back"), 0);
    // After all of it, the good one is taken, once.
    let deadline = Instant::now() + LIMIT;
    let taken = loop {
        let found = answer(&machine, "netserver", &good);
        if found.0 != 503 {
            break found;
        }
        assert!(
            Instant::now() < deadline,
            "the client that went away still counts"
        );
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(taken.0, 200, "{taken:?}");
    machine.expect_line("updater: netserver was upgraded to segue-netserver");
    expect("netserver", &good, 409, "a higher one than 101 is needed");
}

#[test]
fn a_program_that_does_not_work_is_taken_back() {
    let site = Site::new("updater-back", |text| text);
    let machine = site.boot(Cable::Peer(3));
    let back = "mortal was rolled back to what it ran before: the new image";
    for (serial, (program, status, sentence)) in (101..).zip([
        ("segue-stillborn-panics", 409, format!("{back} faulted.")),
        (
            "segue-mortal",
            200,
            "mortal was upgraded to segue-mortal (serial number 102).".into(),
        ),
        (
            "segue-stillborn-loops",
            409,
            format!("{back} made no progress."),
        ),
        (
            "segue-stillborn-waits",
            409,
            format!("{back} was not ready in time."),
        ),
        (
            "segue-mortal",
            200,
            "mortal was upgraded to segue-mortal (serial number 105).".into(),
        ),
    ]) {
        let package = site.package("mortal", program, serial);
        assert_eq!(answer(&machine, "mortal", &package), (status, sentence));
        // Not even that which was taken back is taken twice.
        let again = answer(&machine, "mortal", &package);
        assert_eq!(again.0, 409, "{again:?}");
    }
    assert_eq!(
        lines(
            &machine,
            "updater: mortal was rolled back to what it ran before"
        ),
        3
    );
}

#[test]
fn curl_sends_a_package() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let site = Site::new("updater-curl", |text| text);
    let machine = site.boot(Cable::Tap);
    let namespace = machine.namespace().expect("the cable is a tap");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("package");
    let send = |bytes: &[u8], url: &str| {
        std::fs::write(&file, bytes).expect("the package can be written");
        let output = namespace.run(|| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-m", "60", "-w", "%{http_code}", "-T"]);
            curl.arg(&file).arg(url).output()
        });
        let output = output.expect("the namespace is there").expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let package = site.package("netserver", "segue-netserver", 101);
    let url = format!("http://10.0.2.15:{PORT}/upgrade/netserver");
    let said = send(&package[1..], &url);
    assert!(said.ends_with("nothing was done.\n403"), "{said}");
    assert_eq!(
        send(&package, &url),
        "netserver was upgraded to segue-netserver (serial number 101).\n200"
    );
    // Larger than anything there is room for: curl asks before it sends so much.
    let said = send(&vec![0; 20 << 20], &url);
    assert!(said.ends_with("nothing was done.\n413"), "{said}");
}
