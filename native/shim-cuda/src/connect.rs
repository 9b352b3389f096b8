//! `cuInit` and the first need of a GPU: finds the session, connects to its server, and says hello.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cuda_abi::CUresult;
use place::{Owner, Wanted};
use transport::{ClientKey, EmulatedRtt};
use wire::cuda::{FarpoolWindow, FarpoolWindowReply};
use wire::handshake::{self, DeviceSnapshot, Hello, Welcome};

use crate::broker::{self, Admission, Applicant, BrokerError, Offer};
use crate::client::Client;
use crate::connection::{Connection, Loss};
use crate::device::Devices;
use crate::dial::{self, Transport, Unopened, Wishes};
use crate::found::Found;
use crate::window::{Reservation, Window};
use crate::{aside, report, servers, state, thread, window};

/// Highest driver version this shim implements: it answers the server's version, capped at this.
pub const SHIM_DRIVER_VERSION: i32 = 13000;

/// Exit codes of `FARPOOL_REQUIRED=1` (sysexits.h): service unavailable, and try again later.
const EX_UNAVAILABLE: i32 = 69;

/// The same for something that was written wrongly.
const EX_USAGE: i32 = 64;

/// `cuInit`: with the broker of a session it connects, with a client service it learns what there will be.
pub fn start() -> Result<(&'static Found, Vec<Client>), CUresult> {
    if let Some(path) = place::session() {
        return with_session(connect(&path, Owner::Anybody)?);
    }
    let mut why =
        "this process belongs to no session (FARPOOL_SESSION is not set), and there is no client service; \
                   hint: start it with `farpool run -n 1 -- PROGRAM`"
            .to_owned();
    match place::wanted() {
        Err(sentence) => return refuse(CUresult::NO_DEVICE, EX_USAGE, &sentence),
        Ok(Wanted::Local) => {
            let sentence = "FARPOOL=local asks for this machine's own GPU, and no driver of one is found";
            return refuse(CUresult::NO_DEVICE, EX_UNAVAILABLE, sentence);
        }
        Ok(Wanted::Any | Wanted::Pool) => {}
    }
    let mut exit_code = EX_UNAVAILABLE;
    for path in place::services() {
        match broker::offer(&path) {
            Ok(Offer { driver_version, devices }) => {
                let found = Found::new(driver_version, Devices::new(vec![devices]), Some(path));
                if found.devices.count() == 0 {
                    return Err(CUresult::NO_DEVICE);
                }
                return Ok((Box::leak(Box::new(found)), Vec::new()));
            }
            Err(BrokerError::Refused { exit_code: code, sentence, .. }) => {
                (exit_code, why) = (code, sentence)
            }
            // A socket that nobody listens on any more: the next one may be served.
            Err(error) => why = error.to_string(),
        }
    }
    if aside::instead_of_services() {
        return Err(CUresult::NO_DEVICE);
    }
    refuse(CUresult::NO_DEVICE, exit_code, &why)
}

/// What this process knows of a session that it is connected to, at all its servers. Those that the program sees no GPU of
/// are left again.
fn with_session(mut connected: Vec<Connected>) -> Result<(&'static Found, Vec<Client>), CUresult> {
    let versions = connected.iter().map(|server| server.welcome.driver_version);
    let driver_version = versions.min().unwrap_or(SHIM_DRIVER_VERSION);
    let mut devices = Devices::new((0..).zip(&connected).map(|(server, at)| at.devices(server)).collect());
    let stay = devices.leave_servers_out();
    let mut number = 0..connected.len();
    connected.retain(|server| {
        let stays = number.next().is_some_and(|number| stay.contains(&number));
        if !stays {
            server.connection.lose(Loss::Io("CUDA_VISIBLE_DEVICES hides its GPUs".into()));
        }
        stays
    });
    if connected.is_empty() {
        // As NVIDIA's driver answers a program from which all devices are hidden.
        return Err(CUresult::NO_DEVICE);
    }
    servers::expect(connected.len());
    let found: &'static Found = Box::leak(Box::new(Found::new(driver_version, devices, None)));
    let clients = (0..).zip(connected).map(|(server, connected)| connected.client(server, found)).collect();
    Ok((found, clients))
}

/// The first need of a GPU in a process of a client service: waits until the service has one, and connects.
pub fn take(found: &'static Found) -> Result<Client, CUresult> {
    let path = found.service.as_deref().ok_or(CUresult::NOT_INITIALIZED)?;
    let mut connected = connect(path, Owner::RootOrUs)?;
    // A service's session is on one server: what it told of its GPUs before there were any says so.
    let others = connected.split_off(1);
    others.iter().for_each(|other| other.connection.lose(Loss::Io("another server than was told".into())));
    let connected = connected.pop().ok_or(CUresult::DEVICE_UNAVAILABLE)?;
    let count = connected.welcome.devices.len();
    if count != found.devices.of_session {
        connected.connection.lose(Loss::Io("the session has other GPUs".into()));
        let sentence = format!(
            "the client service told this program of {} GPUs, and its session has {count}; hint: start the program again",
            found.devices.of_session
        );
        return refuse(CUresult::DEVICE_UNAVAILABLE, EX_UNAVAILABLE, &sentence);
    }
    Ok(connected.client(0, found))
}

/// A connection on which both ends have said hello.
struct Connected {
    connection: Arc<Connection>,
    session_id: String,
    welcome: Welcome,
    window: Option<Window>,
}

impl Connected {
    fn client(self, server: usize, found: &'static Found) -> Client {
        let peers = self.welcome.devices.into_iter().map(|device| device.peers).collect();
        Client::new(server, self.connection, self.session_id, found, peers, self.window)
    }

    /// The GPUs of this server, the `server`th of the session. PCI addresses tell devices apart, and those of different servers
    /// may be the same: each server has domains of its own.
    fn devices(&self, server: u16) -> Vec<DeviceSnapshot> {
        let mut devices = self.welcome.devices.clone();
        devices.iter_mut().for_each(|device| broker::move_to_domains(device, server));
        devices
    }
}

/// Why this process gets no GPU.
struct Refused {
    code: CUresult,
    exit_code: i32,
    sentence: String,
}

impl Refused {
    fn new(code: CUresult, sentence: impl ToString) -> Refused {
        Refused { code, exit_code: EX_UNAVAILABLE, sentence: sentence.to_string() }
    }
}

impl From<BrokerError> for Refused {
    fn from(error: BrokerError) -> Refused {
        match error {
            BrokerError::Refused { exit_code, result, sentence } => {
                let code = result_by_name(&result).unwrap_or(CUresult::NO_DEVICE);
                Refused { code, exit_code, sentence }
            }
            error @ BrokerError::NoDescriptor { .. } => Refused::new(CUresult::OPERATING_SYSTEM, error),
            error => Refused::new(CUresult::NO_DEVICE, error),
        }
    }
}

/// Connects this process to a worker on each server of its session.
fn connect(path: &str, owner: Owner) -> Result<Vec<Connected>, CUresult> {
    connect_everywhere(path, owner)
        .or_else(|Refused { code, exit_code, sentence }| refuse(code, exit_code, &sentence))
}

fn connect_everywhere(path: &str, owner: Owner) -> Result<Vec<Connected>, Refused> {
    let key = ClientKey::generate().map_err(|error| Refused::new(CUresult::OPERATING_SYSTEM, error))?;
    let key = Arc::new(key);
    let admission =
        |server| broker::admission(path, owner, &Applicant { key: key.spki(), server, connection_id: None });
    let mut admissions = vec![admission(0)?];
    for server in 1..admissions[0].servers {
        admissions.push(admission(server)?);
    }
    let wishes = || Ok((connect_timeout()?, emulated_rtt()?, wanted_transport()?));
    let wishes = wishes().map_err(|sentence: String| Refused::new(CUresult::NO_DEVICE, sentence))?;
    let count = admissions.len();
    let ways = (0..).zip(admissions).map(|(server, admission)| {
        let (path, key) = (path.to_owned(), Arc::clone(&key));
        move || connect_to((&path, owner), key, (server, admission), count, wishes)
    });
    let mut connected = Vec::new();
    let mut refused = None;
    // A server's driver may take seconds to start.
    for answer in thread::all("farpool-connect", ways.collect()) {
        match answer {
            Ok(server) => connected.push(server),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    let Some(refused) = refused else { return Ok(connected) };
    // Left open, they would keep their workers.
    let loss = Loss::Io("another server of the session cannot be reached".into());
    connected.iter().for_each(|open| open.connection.lose(loss.clone()));
    Err(refused)
}

/// Connects to one of the `count` servers of the session.
fn connect_to(
    broker: (&str, Owner),
    key: Arc<ClientKey>,
    (server, admission): (usize, Admission),
    count: usize,
    wishes: Wishes,
) -> Result<Connected, Refused> {
    let session_id = admission.session_id.clone();
    let time = wishes.0;
    let connection = dial::open(broker, key, (server, admission), wishes)
        .map_err(|Unopened { code, sentence }| Refused::new(CUresult(code), sentence))?;
    let mut places = window::places(count as u64);
    let reservation = places.next();
    let hello = Hello {
        pid: std::process::id(),
        program: crate::program::name(),
        driver_version: SHIM_DRIVER_VERSION,
        window: reservation.as_ref().map(Reservation::proposal).unwrap_or_default(),
    };
    let greeted = greet(&connection, &hello).and_then(|welcome| {
        let agreed = (welcome.window, welcome.granularity);
        let window = agree(reservation, agreed, &mut places, |request| ask(&connection, request))?;
        Ok((welcome, window))
    });
    let (welcome, window) = greeted.map_err(|loss| {
        // The writer thread holds the connection: left open, it would keep a worker for each failed `cuInit`.
        connection.lose(loss.clone());
        match loss {
            Loss::Refused { code, reason } => Refused::new(CUresult(code), reason),
            Loss::Silent => Refused::new(CUresult::NO_DEVICE, dial::silent(time)),
            loss => Refused::new(CUresult::NO_DEVICE, loss),
        }
    })?;
    connection.greeted();
    if window.is_none() {
        report::once(
            "the GPU server's driver chooses the addresses of device memory, as both ends have none in common; \
             large allocations wait for it",
        );
    }
    Ok(Connected { connection, session_id, welcome, window })
}

/// `FARPOOL_TRANSPORT`: which of the server's addresses may be used.
fn wanted_transport() -> Result<Option<Transport>, String> {
    match place::variable(c"FARPOOL_TRANSPORT").unwrap_or_default().as_str() {
        "" => Ok(None),
        "tcp" => Ok(Some(Transport::Network)),
        "unix" => Ok(Some(Transport::Unix)),
        other => Err(format!(
            "FARPOOL_TRANSPORT is `{other}`; expected `tcp` or `unix`, or nothing for what is fastest"
        )),
    }
}

/// `FARPOOL_CONNECT_TIMEOUT=5s`: how long the server may take to be reached, and how long it may then say nothing until
/// the GPUs are ready.
fn connect_timeout() -> Result<Duration, String> {
    /// Starting NVIDIA's driver takes a server with many GPUs up to ten seconds.
    const USUAL: Duration = Duration::from_secs(30);
    match place::variable(c"FARPOOL_CONNECT_TIMEOUT") {
        Some(text) => match transport::parse_duration(&text) {
            Some(time) if !time.is_zero() => Ok(time),
            _ => Err(format!(
                "FARPOOL_CONNECT_TIMEOUT is `{text}`; expected a time above 0, like `30s` or `500ms`"
            )),
        },
        None => Ok(USUAL),
    }
}

/// `FARPOOL_EMULATED_RTT=30ms` makes this connection as slow as a long one: for tests.
fn emulated_rtt() -> Result<EmulatedRtt, String> {
    match place::variable(c"FARPOOL_EMULATED_RTT") {
        Some(text) => text.parse().map_err(|error| format!("FARPOOL_EMULATED_RTT: {error}")),
        None => Ok(EmulatedRtt::default()),
    }
}

fn greet(connection: &Connection, hello: &Hello) -> Result<Welcome, Loss> {
    let reply = connection.call(hello, 0, None)?;
    if reply.head.result != 0 {
        let code = CUresult(reply.head.result);
        return Err(Loss::Refused {
            code: code.0,
            reason: format!("the GPU server's driver answered {code}"),
        });
    }
    let mut reader = wire::Reader::new(&reply.body);
    let welcome = <Welcome as wire::Reply>::decode(&mut reader);
    reader.finish(wire::CallId::HELLO)?;
    Ok(welcome)
}

/// Agrees on a window with the worker, which answered `agreed` to the hello. Where it refuses a place, others are asked for.
fn agree(
    proposed: Option<Reservation>,
    mut agreed: (handshake::Window, u64),
    places: &mut impl Iterator<Item = Reservation>,
    mut ask: impl FnMut(&FarpoolWindow) -> Result<FarpoolWindowReply, Loss>,
) -> Result<Option<Window>, Loss> {
    /// Proposals beside the one in the hello.
    const MORE: usize = 3;
    let Some(mut reservation) = proposed else { return Ok(None) };
    for _ in 0..MORE {
        let (window, granularity) = agreed;
        if window.length > 0 || granularity == 0 {
            return Ok(reservation.agree(window, granularity));
        }
        drop(reservation);
        let Some(next) = places.next() else { return Ok(None) };
        let handshake::Window { start, length } = next.proposal();
        let reply = ask(&FarpoolWindow { start, length })?;
        agreed = (handshake::Window { start: reply.start, length: reply.length }, reply.granularity);
        reservation = next;
    }
    Ok(reservation.agree(agreed.0, agreed.1))
}

fn ask(connection: &Connection, request: &FarpoolWindow) -> Result<FarpoolWindowReply, Loss> {
    let reply = connection.call(request, 0, None)?;
    let mut reader = wire::Reader::new(&reply.body);
    let answer = <FarpoolWindowReply as wire::Reply>::decode(&mut reader);
    if reply.head.result != 0 {
        return Ok(FarpoolWindowReply::default());
    }
    reader.finish(<FarpoolWindow as wire::Request<'_>>::CALL)?;
    Ok(answer)
}

/// There is no GPU for this process: `code` lets frameworks fall back, unless `FARPOOL_REQUIRED=1` asks
/// for an end with the exit code instead of a night of computing on the CPU.
fn refuse<T>(code: CUresult, exit_code: i32, sentence: &str) -> Result<T, CUresult> {
    if place::variable(c"FARPOOL_REQUIRED").is_some_and(|value| value == "1") {
        // A stderr that nobody reads any more is no reason to go on without a GPU, nor is a panic.
        let _ = writeln!(std::io::stderr(), "farpool: {sentence}");
        state::leave();
        std::process::exit(exit_code);
    }
    report::once(sentence);
    Err(code)
}

/// The code with this name.
fn result_by_name(name: &str) -> Option<CUresult> {
    /// `CUDA_ERROR_UNKNOWN`, the last code.
    const LAST: i32 = 999;
    (0..=LAST).map(CUresult).find(|code| code.name().is_some_and(|known| known.to_bytes() == name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers proposals with `answers`, one after the other, each a length and a granularity.
    fn agreed(answers: &[(u64, u64)]) -> (Option<Window>, usize) {
        let mut places = window::places(1);
        let proposed = places.next().expect("a place");
        let mut answers = answers.iter();
        let mut answer = |start| {
            let (length, granularity) = *answers.next().expect("no more proposals");
            (handshake::Window { start, length }, granularity)
        };
        let first = answer(proposed.proposal().start);
        let mut asked = 0;
        let window = agree(Some(proposed), first, &mut places, |request| {
            asked += 1;
            let (handshake::Window { start, length }, granularity) = answer(request.start);
            Ok(FarpoolWindowReply { start, length, granularity })
        });
        (window.expect("an answer"), asked)
    }

    #[test]
    fn a_refused_place_is_followed_by_another_and_no_memory_to_map_by_none() {
        let _alone = window::TESTING.lock();
        const LENGTH: u64 = handshake::SHORTEST_WINDOW;
        const STEP: u64 = 2 << 20;
        for (answers, is_window, asked) in [
            (vec![(LENGTH, STEP)], true, 0),
            (vec![(0, STEP), (LENGTH, STEP)], true, 1),
            (vec![(0, STEP), (0, STEP), (0, STEP), (0, STEP)], false, 3),
            (vec![(0, 0)], false, 0),
            (vec![(0, STEP), (0, 0)], false, 1),
            (vec![(LENGTH, 0)], false, 0),
            (vec![(u64::MAX, STEP)], false, 0),
        ] {
            let (window, proposals) = agreed(&answers);
            assert_eq!((window.is_some(), proposals), (is_window, asked), "{answers:?}");
        }
    }
}
