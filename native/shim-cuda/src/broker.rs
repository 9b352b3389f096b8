//! Asks the broker for a way to a worker: session, grant and addresses (ARCHITECTURE 4.4).

use std::os::fd::AsFd as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuda_abi::pci::pci_numbers;
use cuda_abi::{
    CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID,
};
use place::{MOST_RESTARTS, Owner, RESTART};
use transport::{Endpoint, SPKI_BYTES, Socket};
use wire::handshake::DeviceSnapshot;

use crate::descriptor;
use crate::servers;
use crate::state::Line;

/// Bytes of an answer that are read at most; a real one has a few hundred.
const ANSWER_LIMIT: usize = 64 << 10;

/// How long a process may be without a connection where the broker says nothing of it.
const USUAL_GRACE: Duration = Duration::from_secs(120);

/// How long the broker may take to answer: it holds the session already when it starts the program.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the broker hands out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// The session's id.
    pub session_id: String,
    /// How many servers it is on.
    pub servers: usize,
    /// What this process's connections are called.
    pub connection_id: [u8; 16],
    /// Proves to the acceptor that the broker chose the id.
    pub token: [u8; 32],
    /// The process grant; empty where none is asked for.
    pub grant: String,
    /// Authorities that the server's certificate may be of (DER).
    pub trusted: Vec<Vec<u8>>,
    /// Id of the server, which its certificate names.
    pub server_id: String,
    /// How long this process may be without a connection.
    pub grace: Duration,
    /// Where its server's data port is, best first.
    pub endpoints: Vec<Endpoint>,
}

/// Who asks.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// The public key of this process.
    pub key: &'a [u8; SPKI_BYTES],
    /// Which of the session's servers it wants to be let in to.
    pub server: usize,
    /// Its connections' id, when it has one already.
    pub connection_id: Option<[u8; 16]>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nobody answers on the socket.
    #[error("the session's broker at `{path}` does not answer ({reason}): the session has probably ended")]
    Unreachable {
        /// The socket.
        path: String,
        /// Why.
        reason: String,
    },
    /// Nobody answers where a service's socket is.
    #[error(
        "the client service at `{path}` does not answer ({reason}); hint: `farpool service status` tells how it is"
    )]
    Away {
        /// The socket.
        path: String,
        /// Why.
        reason: String,
    },
    /// Somebody else has made a socket where a service's is looked for.
    #[error(
        "the client service at `{path}` is run by user {user}, who is neither root nor this process's user: it is not asked"
    )]
    Stranger {
        /// The socket.
        path: String,
        /// Whose it is.
        user: u32,
    },
    /// The program uses all the descriptors that it may have.
    #[error(
        "this process has no descriptor left for the connection to its GPU server ({reason}); hint: `ulimit -n` shows how many it may have"
    )]
    NoDescriptor {
        /// Why.
        reason: String,
    },
    /// The broker says no.
    #[error("{sentence}")]
    Refused {
        /// Exit code that goes with the refusal.
        exit_code: i32,
        /// Name of the `CUresult` for `cuInit`.
        result: String,
        /// The sentence for the user.
        sentence: String,
    },
    /// The answer is not one.
    #[error("the session's broker at `{path}` answered `{line}`, expected {expected}")]
    Malformed {
        /// The socket.
        path: String,
        /// The line that is wrong.
        line: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// What a service tells of its GPUs before there are any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// CUDA's number of the driver's version.
    pub driver_version: i32,
    /// The GPUs.
    pub devices: Vec<DeviceSnapshot>,
}

/// Asks the broker behind the Unix socket `path` to be let in. Whose broker it is, is known from where the path came.
pub fn admission(path: &str, owner: Owner, applicant: &Applicant<'_>) -> Result<Admission, BrokerError> {
    let again =
        applicant.connection_id.map_or_else(String::new, |id| format!("connection {}\n", to_hex(&id)));
    // Brokers that are older know of the first one only.
    let server = match applicant.server {
        0 => String::new(),
        server => format!("server {server}\n"),
    };
    let request = format!("key {}\n{server}{again}", URL_SAFE_NO_PAD.encode(applicant.key));
    parse(path, &ask(path, owner, &request)?)
}

/// Asks a service which GPUs its programs will have.
pub fn offer(path: &str) -> Result<Offer, BrokerError> {
    parse_offer(path, &ask(path, Owner::RootOrUs, "want devices\n")?)
}

fn ask(path: &str, owner: Owner, request: &str) -> Result<Vec<String>, BrokerError> {
    for _ in 0..MOST_RESTARTS {
        if let Some(lines) = ask_once(path, owner, request)? {
            return Ok(lines);
        }
        std::thread::sleep(RESTART);
    }
    Err(away(path, owner, "it was started again and again".to_owned()))
}

fn away(path: &str, owner: Owner, reason: String) -> BrokerError {
    let path = path.to_owned();
    match owner {
        Owner::Anybody => BrokerError::Unreachable { path, reason },
        Owner::RootOrUs => BrokerError::Away { path, reason },
    }
}

/// `None`: the other end is gone without an answer.
fn ask_once(path: &str, owner: Owner, request: &str) -> Result<Option<Vec<String>>, BrokerError> {
    let unreachable = |error: std::io::Error| match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => BrokerError::NoDescriptor { reason: error.to_string() },
        // The kernel's word for a time that is over is that somebody should try again.
        Some(libc::EAGAIN) => away(path, owner, format!("nothing for {} s", ANSWER_TIMEOUT.as_secs())),
        _ => away(path, owner, error.to_string()),
    };
    let endpoint = Endpoint::Unix(path.into());
    // Kept for as long as it takes to get a GPU: who hangs up waits no longer, so no child may keep it open.
    let place = |descriptor| descriptor::place(descriptor, Line::Broker);
    let socket = Socket::connect(&endpoint, ANSWER_TIMEOUT, place).map_err(unreachable)?;
    if owner == Owner::RootOrUs {
        let user = place::peer::user(socket.as_fd()).map_err(unreachable)?;
        if !owner.may_be(user) {
            return Err(BrokerError::Stranger { path: path.to_owned(), user });
        }
    }
    socket.limit_receiving(Some(ANSWER_TIMEOUT));
    let head = format!("farpool-broker 2\npid {}\nprogram {}\n", std::process::id(), crate::program::name());
    let is_gone = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    };
    match socket.send_all(&[head.as_bytes(), request.as_bytes(), b"\n"]) {
        Err(error) if is_gone(&error) && owner == Owner::RootOrUs => return Ok(None),
        sent => sent.map_err(unreachable)?,
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"\n\n") && answer.len() < ANSWER_LIMIT {
        match socket.receive(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if is_gone(&error) && owner == Owner::RootOrUs => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        }
        tell_waiting(&mut answer);
    }
    if answer.is_empty() && owner == Owner::RootOrUs {
        return Ok(None);
    }
    let answer = String::from_utf8_lossy(&answer);
    Ok(Some(answer.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()))
}

/// Takes the lines `wait SENTENCE` from the front of an answer, and shows them to who sits before a blocked program.
fn tell_waiting(answer: &mut Vec<u8>) {
    while answer.starts_with(b"wait ") {
        let Some(end) = answer.iter().position(|byte| *byte == b'\n') else { return };
        let line: Vec<u8> = answer.drain(..=end).collect();
        crate::report::once(String::from_utf8_lossy(&line[5..end]).trim());
    }
}

fn malformed_answer(path: &str) -> impl Fn(&str, &'static str) -> BrokerError {
    move |line, expected| BrokerError::Malformed { path: path.to_owned(), line: line.to_owned(), expected }
}

/// What follows the `ok`.
fn accepted<'a>(path: &str, lines: &'a [String]) -> Result<&'a [String], BrokerError> {
    let malformed = malformed_answer(path);
    match lines.first().map(String::as_str) {
        Some("ok") => Ok(&lines[1..]),
        Some(line) => {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next().map(str::parse), words.next(), words.next()) {
                (Some("error"), Some(Ok(exit_code)), Some(result), Some(sentence)) => {
                    Err(BrokerError::Refused {
                        exit_code,
                        result: result.to_owned(),
                        sentence: sentence.to_owned(),
                    })
                }
                _ => Err(malformed(line, "`ok` or `error CODE NAME sentence`")),
            }
        }
        None => Err(malformed("", "`ok` or `error CODE NAME sentence`")),
    }
}

fn parse_offer(path: &str, lines: &[String]) -> Result<Offer, BrokerError> {
    let malformed = malformed_answer(path);
    let mut offer = Offer::default();
    let mut attributes = Vec::new();
    for line in accepted(path, lines)? {
        match line.split_once(' ') {
            Some(("driver", version)) => {
                offer.driver_version =
                    version.parse().map_err(|_| malformed(line, "the number of CUDA's version"))?;
            }
            Some(("attributes", pairs)) => {
                let pair = |text: &str| {
                    let (number, value) = text.split_once('=')?;
                    Some((number.parse().ok()?, value.parse().ok()?))
                };
                let parsed: Option<Vec<(i32, i32)>> = pairs.split_whitespace().map(pair).collect();
                attributes =
                    parsed.ok_or_else(|| malformed("attributes …", "NUMBER=VALUE, with spaces between"))?;
            }
            Some(("device", text)) => {
                let device = parse_device(text);
                offer
                    .devices
                    .push(device.ok_or_else(|| malformed(line, "UUID, bytes, PCI address and name"))?);
            }
            _ => {}
        }
    }
    if offer.devices.is_empty() || offer.driver_version == 0 {
        return Err(malformed("ok", "a driver's version and a device after it"));
    }
    for device in &mut offer.devices {
        device.attributes.clone_from(&attributes);
        let place = pci_numbers(&device.pci_bus_id);
        set_place(device, place.ok_or_else(|| malformed(&device.pci_bus_id, "a PCI address"))?);
    }
    Ok(offer)
}

/// The address is the device's own, and attributes tell it too: NVIDIA's runtime compares them.
fn set_place(device: &mut DeviceSnapshot, (domain, bus, number): (i32, i32, i32)) {
    for (attribute, value) in &mut device.attributes {
        match *attribute {
            CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID => *value = domain,
            CU_DEVICE_ATTRIBUTE_PCI_BUS_ID => *value = bus,
            CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID => *value = number,
            _ => {}
        }
    }
}

/// Gives a device of the `server`th server of a session domains that no other server's have, those that the manager tells NVML
/// (`inDomainsOf` in apps/manager/src/sessions/gpus.ts).
pub fn move_to_domains(device: &mut DeviceSnapshot, server: u16) {
    /// Domains are numbers of 16 bits; those that servers use are small.
    const APART: i32 = 0x400;
    if server == 0 {
        return;
    }
    let Some((domain, bus, number)) = pci_numbers(&device.pci_bus_id) else { return };
    let domain = domain + APART * i32::from(server);
    device.pci_bus_id = format!("{domain:04X}:{bus:02X}:{number:02X}.0");
    set_place(device, (domain, bus, number));
}

fn parse_device(text: &str) -> Option<DeviceSnapshot> {
    let mut words = text.splitn(4, ' ');
    let uuid = from_hex(&words.next()?.strip_prefix("GPU-")?.replace('-', ""))?;
    let total_memory = words.next()?.parse().ok()?;
    let pci_bus_id = words.next()?.to_owned();
    let name = words.next()?.to_owned();
    Some(DeviceSnapshot { name, uuid, total_memory, pci_bus_id, ..DeviceSnapshot::default() })
}

fn parse(path: &str, lines: &[String]) -> Result<Admission, BrokerError> {
    let malformed = malformed_answer(path);
    let lines = accepted(path, lines)?;
    let mut admission = Admission { grace: USUAL_GRACE, servers: 1, ..Admission::default() };
    let (mut has_connection, mut has_token) = (false, false);
    for line in lines {
        match line.split_once(' ') {
            Some(("session", id)) => id.clone_into(&mut admission.session_id),
            Some(("servers", count)) => {
                let count = count.parse().ok().filter(|count| (1..=servers::MOST).contains(count));
                admission.servers = count.ok_or_else(|| malformed(line, "1 to 64 servers"))?;
            }
            Some(("connection", text)) => {
                admission.connection_id =
                    from_hex(text).ok_or_else(|| malformed(line, "32 hexadecimal digits"))?;
                has_connection = true;
            }
            Some(("token", text)) => {
                admission.token =
                    from_hex(text).ok_or_else(|| malformed("token …", "64 hexadecimal digits"))?;
                has_token = true;
            }
            Some(("grant", text)) => text.clone_into(&mut admission.grant),
            Some(("trust", text)) => {
                let authority = URL_SAFE_NO_PAD.decode(text);
                admission.trusted.push(authority.map_err(|_| malformed(line, "base64url without padding"))?);
            }
            Some(("server", id)) => id.clone_into(&mut admission.server_id),
            Some(("grace", seconds)) => {
                let seconds = seconds.parse().map_err(|_| malformed(line, "a number of seconds"))?;
                admission.grace = Duration::from_secs(seconds);
            }
            Some(("endpoint", text)) => {
                let endpoint = text.parse();
                let expected = "`tls HOST:PORT`, `tcp HOST:PORT` or `unix PATH`";
                admission.endpoints.push(endpoint.map_err(|_| malformed(line, expected))?);
            }
            // A newer broker may say more than this shim knows.
            _ => {}
        }
    }
    let is_whole =
        has_connection && has_token && !admission.session_id.is_empty() && !admission.endpoints.is_empty();
    if !is_whole {
        return Err(malformed("ok", "a session, a connection, a token and an endpoint after it"));
    }
    Ok(admission)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (value, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *value = u8::try_from(high << 4 | low).ok()?;
    }
    Some(out)
}

/// As the broker's lines spell bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_admission_is_read_and_unknown_lines_are_left_alone() {
        let text = format!(
            "ok\nsession s-1\nconnection {}\ntoken {}\ngrant a.b.c\ntrust AQID\nserver g-1\ngrace 5\nfuture thing\n\
             endpoint unix /run/x\nendpoint tls h:1",
            "07".repeat(16),
            "0f".repeat(32)
        );
        let expected = Admission {
            session_id: "s-1".into(),
            servers: 1,
            connection_id: [7; 16],
            token: [15; 32],
            grant: "a.b.c".into(),
            trusted: vec![vec![1, 2, 3]],
            server_id: "g-1".into(),
            grace: Duration::from_secs(5),
            endpoints: vec![Endpoint::Unix("/run/x".into()), Endpoint::Tls("h:1".into())],
        };
        assert_eq!(parse("/b", &lines(&text)), Ok(expected));
    }

    #[test]
    fn an_offer_gives_every_device_the_attributes() {
        let text = "ok\nservice farpool 1\ndriver 13000\nattributes 75=8 33=9 50=0\n\
                    device GPU-07070707-0707-0707-0707-070707070707 1024 000F:01:00.0 Farpool Simulated GPU\nnew x";
        let device = DeviceSnapshot {
            name: "Farpool Simulated GPU".into(),
            uuid: [7; 16],
            total_memory: 1024,
            pci_bus_id: "000F:01:00.0".into(),
            attributes: vec![(75, 8), (33, 1), (50, 15)],
            peers: Vec::new(),
        };
        assert_eq!(
            parse_offer("/b", &lines(text)),
            Ok(Offer { driver_version: 13000, devices: vec![device] })
        );
        for text in ["ok", "ok\ndriver 13000", "ok\ndriver x", "ok\nattributes 1", "ok\ndevice GPU-07 1 p n"]
        {
            assert!(matches!(parse_offer("/b", &lines(text)), Err(BrokerError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn equal_addresses_on_different_servers_are_told_apart() {
        let mut device = DeviceSnapshot {
            pci_bus_id: "0000:0A:00.0".into(),
            attributes: vec![(50, 0), (33, 10)],
            ..DeviceSnapshot::default()
        };
        move_to_domains(&mut device, 0);
        assert_eq!(device.pci_bus_id, "0000:0A:00.0");
        move_to_domains(&mut device, 2);
        assert_eq!(
            (device.pci_bus_id.as_str(), &*device.attributes),
            ("0800:0A:00.0", &[(50, 0x800), (33, 10)][..])
        );
    }

    #[test]
    fn how_many_servers_there_are_is_told_within_limits() {
        let text = |line: &str| {
            let (id, token) = ("07".repeat(16), "0f".repeat(32));
            lines(&format!("ok\nsession s\n{line}connection {id}\ntoken {token}\nendpoint unix /run/x"))
        };
        let servers = |line: &str| parse("/b", &text(line)).map(|admission| admission.servers);
        assert_eq!(servers(""), Ok(1));
        assert_eq!(servers("servers 3\n"), Ok(3));
        for line in ["servers 0\n", "servers 65\n", "servers many\n"] {
            assert!(matches!(servers(line), Err(BrokerError::Malformed { .. })), "{line}");
        }
    }

    #[test]
    fn who_waits_is_told_and_the_answer_stays() {
        let mut answer = b"wait position 2\nwait position 1\nok\nsess".to_vec();
        tell_waiting(&mut answer);
        assert_eq!(answer, b"ok\nsess");
        let mut half = b"wait posi".to_vec();
        tell_waiting(&mut half);
        assert_eq!(half, b"wait posi");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_sentence() {
        let error = parse("/b", &lines("error 75 CUDA_ERROR_NO_DEVICE no GPU came free in 10 min"));
        assert_eq!(
            error,
            Err(BrokerError::Refused {
                exit_code: 75,
                result: "CUDA_ERROR_NO_DEVICE".into(),
                sentence: "no GPU came free in 10 min".into()
            })
        );
    }

    #[test]
    fn half_an_answer_is_malformed() {
        for text in ["", "maybe", "ok", "ok\nsession s-1\ntoken zz", "ok\nsession s\nendpoint tcp 1"] {
            assert!(matches!(parse("/b", &lines(text)), Err(BrokerError::Malformed { .. })), "{text}");
        }
    }
}
