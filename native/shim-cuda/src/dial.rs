//! Connecting to the worker of this process, the first time and again.

use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuda_abi::CUresult;
use place::Owner;
use transport::{
    Attempt, ClientKey, ClientTls, Dial, EmulatedRtt, Endpoint, Lane, Link, Opening, Refusal, Socket,
    client_handshake,
};
use wire::preface::{Preface, Purpose};

use crate::broker::{self, Admission, Applicant, BrokerError, to_hex};
use crate::connection::{Connection, Explain, Opener};
use crate::descriptor;
use crate::state::Line;

/// Pause before a first connection is tried again that broke before the worker had let it in.
const PAUSE: Duration = Duration::from_millis(20);

/// How often that is done over a Unix socket, where no network breaks anything: an acceptor that was killed had the
/// connection in hand, or the worker does not start.
const MOST_BROKEN_LOCALLY: u32 = 100;

/// How long it is asked why a connection within the machine is over.
const EXPLANATION: Duration = Duration::from_millis(500);

/// How long one attempt to open the bulk lane may take: there is a connection that works.
const BULK_ATTEMPT: Duration = Duration::from_secs(5);

/// Bytes of the token that fit into a server name.
const NAMED_TOKEN_BYTES: usize = 16;

/// Which of a server's addresses may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Those over TCP, with TLS or in clear.
    Network,
    /// Those within the machine.
    Unix,
}

/// Why there is no connection.
#[derive(Debug)]
pub struct Unopened {
    /// `CUresult` for `cuInit`.
    pub code: i32,
    /// The sentence for the user.
    pub sentence: String,
}

impl From<String> for Unopened {
    fn from(sentence: String) -> Self {
        Unopened { code: CUresult::NO_DEVICE.0, sentence }
    }
}

/// How long connecting may take, how much longer a round trip is to take, and which addresses are wanted.
pub type Wishes = (Duration, EmulatedRtt, Option<Transport>);

/// The way to the worker of this process.
struct Way {
    /// The broker's socket.
    broker: String,
    /// Whose it has to be.
    owner: Owner,
    key: Arc<ClientKey>,
    /// Which of the session's servers it leads to.
    server: usize,
    admission: Mutex<Admission>,
    rtt: EmulatedRtt,
    wanted: Option<Transport>,
}

// Its state is behind a lock, and valid between any two statements.
impl UnwindSafe for Way {}
impl RefUnwindSafe for Way {}

/// Connects this process to its worker.
pub fn open(
    (broker, owner): (&str, Owner),
    key: Arc<ClientKey>,
    (server, admission): (usize, Admission),
    (time, rtt, wanted): Wishes,
) -> Result<Arc<Connection>, Unopened> {
    let (session_id, grace) = (admission.session_id.clone(), admission.grace);
    let way =
        Way { broker: broker.to_owned(), owner, key, server, admission: Mutex::new(admission), rtt, wanted };
    let endpoints = way.endpoints();
    if endpoints.is_empty() {
        let sentence = format!(
            "FARPOOL_TRANSPORT is set, and the server of session {session_id} offers no such address"
        );
        return Err(sentence.into());
    }
    let way = Arc::new(way);
    let mut tried = Vec::new();
    for endpoint in endpoints {
        match way.first(&endpoint, Line::Control(server), time) {
            Ok(link) => {
                let lane = lane(&way, &endpoint, Line::Control(server), link, grace);
                let explain = explanation(&way, &endpoint);
                let (way, rest) = (Arc::clone(&way), endpoint);
                let open_bulk = move || {
                    // The first grant may be old by now.
                    let opened = way
                        .renew()
                        .and_then(|()| way.first(&rest, Line::Bulk(server), time.min(BULK_ATTEMPT)));
                    match opened {
                        Ok(link) => Ok(Some(self::lane(&way, &rest, Line::Bulk(server), link, grace))),
                        Err(error) if is_final(&error, &rest) => Err(error),
                        Err(_) => Ok(None),
                    }
                };
                let opener = Opener { connect: Box::new(open_bulk), explain };
                lane.limit_receiving(Some(time));
                return Connection::start(lane, Some(opener))
                    .map_err(|error| Unopened::from(error.to_string()));
            }
            Err(error) => {
                if let Some(refusal) = refusal(&error) {
                    return Err(Unopened { code: refusal.code, sentence: refusal.reason.clone() });
                }
                if error.kind() == io::ErrorKind::WouldBlock {
                    return Err(silent(time).into());
                }
                tried.push(format!("{endpoint}: {error}"));
            }
        }
    }
    Err(format!("the GPU server cannot be reached ({})", tried.join("; ")).into())
}

fn lane(way: &Arc<Way>, endpoint: &Endpoint, line: Line, link: Link, grace: Duration) -> Lane {
    if matches!(endpoint, Endpoint::Unix(_)) {
        return Lane::bare(link);
    }
    let (way, endpoint) = (Arc::clone(way), endpoint.clone());
    let dial: Dial = Box::new(move |attempt| way.again(&endpoint, line, attempt));
    Lane::client(link, dial, grace)
}

/// Over a network a lane that breaks is connected anew, and whoever refuses that says why. Within the machine nobody would
/// ask, so this does.
fn explanation(way: &Arc<Way>, endpoint: &Endpoint) -> Option<Explain> {
    if !matches!(endpoint, Endpoint::Unix(_)) {
        return None;
    }
    let (way, endpoint) = (Arc::clone(way), endpoint.clone());
    Some(Box::new(move || way.explain(&endpoint)))
}

/// What is said of a server that does not answer for `time`.
pub fn silent(time: Duration) -> String {
    format!(
        "the GPU server accepted the connection and then said nothing for {} s; \
         hint: FARPOOL_CONNECT_TIMEOUT=60s waits longer",
        time.as_secs_f64()
    )
}

/// Whether another try would end as this one.
fn is_final(error: &io::Error, endpoint: &Endpoint) -> bool {
    let is_refused = refusal(error).is_some_and(|refusal| refusal.code != CUresult::SYSTEM_NOT_READY.0);
    let has_no_descriptor = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    is_refused || has_no_descriptor || matches!(endpoint, Endpoint::Unix(_))
}

fn refusal(error: &io::Error) -> Option<&Refusal> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl Way {
    /// The addresses that may be used, best first.
    fn endpoints(&self) -> Vec<Endpoint> {
        let is_wanted = |endpoint: &&Endpoint| match self.wanted {
            Some(Transport::Network) => matches!(endpoint, Endpoint::Tls(_) | Endpoint::Tcp(_)),
            Some(Transport::Unix) => matches!(endpoint, Endpoint::Unix(_)),
            None => true,
        };
        self.admission().endpoints.iter().filter(is_wanted).cloned().collect()
    }

    fn admission(&self) -> Admission {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first connection of a lane. One that breaks before the worker has let it in is tried again, as is one that the
    /// server is not ready for.
    fn first(&self, endpoint: &Endpoint, line: Line, time: Duration) -> io::Result<Link> {
        let deadline = Instant::now() + time;
        let mut broken = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.connect(endpoint, line, None, left) {
                Ok((link, _)) => return Ok(link),
                Err(error) => error,
            };
            // An acceptor that is crowded, or before which these first words were late, says so.
            let is_early =
                refusal(&error).is_some_and(|refusal| refusal.code == CUresult::SYSTEM_NOT_READY.0);
            let has_broken = matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
            );
            broken += u32::from(has_broken);
            let is_enough = matches!(endpoint, Endpoint::Unix(_)) && broken > MOST_BROKEN_LOCALLY;
            if !(has_broken || is_early) || left <= PAUSE || is_enough {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// A further connection of a lane: with a fresh grant if the broker gives one, at any of the server's addresses.
    fn again(&self, first: &Endpoint, line: Line, attempt: Attempt) -> io::Result<(Link, u64)> {
        self.renew()?;
        let mut endpoints = vec![first.clone()];
        let others = self.endpoints().into_iter().filter(|endpoint| !matches!(endpoint, Endpoint::Unix(_)));
        endpoints.extend(others.filter(|endpoint| endpoint != first));
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for endpoint in endpoints {
            match self.connect(&endpoint, line, Some(attempt.received), attempt.time) {
                Ok(connected) => return Ok(connected),
                Err(error) if refusal(&error).is_some() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Why the connection within the machine is over: what the broker says, who holds the session, or else the acceptor. The
    /// worker may be gone before either has heard why.
    fn explain(&self, endpoint: &Endpoint) -> Option<Refusal> {
        let deadline = Instant::now() + EXPLANATION;
        let mut known = None;
        while Instant::now() < deadline {
            if let Err(error) = self.renew() {
                return refusal(&error).cloned().or(known);
            }
            if known.is_none() {
                let attempt = self.connect(endpoint, Line::Control(self.server), Some(0), EXPLANATION);
                known = attempt.err().as_ref().and_then(refusal).cloned();
            }
            std::thread::sleep(PAUSE);
        }
        known.filter(|refusal| refusal.code != CUresult::SYSTEM_NOT_READY.0)
    }

    /// Asks for a fresh grant. A broker that is away does not matter as long as the last one is valid.
    fn renew(&self) -> io::Result<()> {
        let connection_id = Some(self.admission().connection_id);
        let applicant = Applicant { key: self.key.spki(), server: self.server, connection_id };
        match broker::admission(&self.broker, self.owner, &applicant) {
            Ok(admission) => {
                *self.admission.lock().unwrap_or_else(PoisonError::into_inner) = admission;
                Ok(())
            }
            Err(BrokerError::Refused { sentence, .. }) => {
                let refusal = Refusal { code: CUresult::DEVICE_UNAVAILABLE.0, reason: sentence };
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal))
            }
            Err(_) => Ok(()),
        }
    }

    /// Connects; `received` is given for a lane that had a connection before.
    fn connect(
        &self,
        endpoint: &Endpoint,
        line: Line,
        received: Option<u64>,
        time: Duration,
    ) -> io::Result<(Link, u64)> {
        let admission = self.admission();
        let socket = Socket::connect(endpoint, time, |descriptor| descriptor::place(descriptor, line))?;
        let socket = socket.with_emulated_rtt(self.rtt, crate::thread::spawn)?;
        socket.limit_receiving(Some(time));
        let is_bulk_lane = matches!(line, Line::Bulk(_));
        let purpose = Purpose { is_bulk_lane, is_resumed: received.is_some(), is_end: false };
        let link = if matches!(endpoint, Endpoint::Tls(_)) {
            let tls = ClientTls::new(&self.key, &admission.trusted, &admission.server_id)
                .map_err(io::Error::other)?;
            let keys = client_handshake(&socket, &tls, &routing_name(&admission, purpose))?;
            Link::sealed(socket, keys)
        } else {
            let Admission { session_id, connection_id, token, .. } = admission.clone();
            socket.send_all(&[&Preface { session_id, connection_id, token, purpose }.encode()])?;
            Link::plain(socket)
        };
        let opening = Opening {
            is_bulk_lane,
            is_resumed: received.is_some(),
            received: received.unwrap_or(0),
            grant: admission.grant,
            ..Opening::default()
        };
        let peer_received = link.open(&opening)?;
        link.socket().limit_receiving(None);
        Ok((link, peer_received))
    }
}

/// What the acceptor routes a TLS connection by: it stands in clear in the first record.
fn routing_name(admission: &Admission, purpose: Purpose) -> String {
    format!(
        "{}.{}.f{}.{}.farpool.internal",
        to_hex(&admission.connection_id),
        to_hex(&admission.token[..NAMED_TOKEN_BYTES]),
        purpose.flags(),
        admission.session_id
    )
}
