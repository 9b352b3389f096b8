//! The client's connections: who may come in, and which lane a connection carries on.
//!
//! The acceptor passes each connection as it came; its TLS handshake and its first words are read here. The first one
//! is served by the main thread, all others by threads of their own, as their clients may say nothing for a while.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cuda_abi::CUresult;
use transport::{Lane, Link, Opening, Refusal, ServerTls, Socket, WorkerIdentity, server_handshake};

use crate::assignment::{Assignment, ConnectionKind};
use crate::bulk::Arrivals;
use crate::control::Control;
use crate::outbox::Outbox;
use crate::wake::Wake;

/// How long a client may take for its handshake and first words.
const FIRST_WORDS: Duration = Duration::from_secs(5);

/// Connections whose first words are awaited at once.
const MOST_ARRIVING: usize = 8;

/// What a connection is checked with.
#[derive(Debug)]
pub struct Gate {
    tls: Option<ServerTls>,
    grace: Duration,
    wake: Arc<Wake>,
}

/// A connection that was let in.
struct Admitted {
    link: Link,
    opening: Opening,
    kind: ConnectionKind,
}

impl Gate {
    /// The gate of the session of `assignment`; `wake` is told when a connection comes or goes.
    pub fn new(assignment: &Assignment, wake: Arc<Wake>) -> anyhow::Result<Gate> {
        let tls = match &assignment.identity {
            Some(path) => Some(ServerTls::new(&WorkerIdentity::read(path)?)?),
            None => None,
        };
        Ok(Gate { tls, grace: assignment.grace(), wake })
    }

    /// Shakes hands with the client's first connection and makes its control lane.
    pub fn first(&self, kind: ConnectionKind, descriptor: OwnedFd) -> anyhow::Result<Arc<Lane>> {
        let Admitted { link, opening, kind } = self.admit(kind, descriptor)?;
        if opening.is_bulk_lane || opening.is_resumed || opening.received > 0 {
            bail!("the client's first connection is not its first");
        }
        link.admit(0).context("let the client in")?;
        Ok(self.lane(kind, link))
    }

    fn lane(&self, kind: ConnectionKind, link: Link) -> Arc<Lane> {
        link.socket().limit_receiving(None);
        if kind == ConnectionKind::Unix {
            return Arc::new(Lane::bare(link));
        }
        let wake = Arc::clone(&self.wake);
        Arc::new(Lane::worker(link, self.grace, Box::new(move || wake.wake())))
    }

    fn admit(&self, kind: ConnectionKind, descriptor: OwnedFd) -> anyhow::Result<Admitted> {
        let socket = Socket::from_descriptor(descriptor);
        socket.limit_receiving(Some(FIRST_WORDS));
        let mut link = match (kind, &self.tls) {
            (ConnectionKind::Unix | ConnectionKind::Tcp, _) => Link::plain(socket),
            (ConnectionKind::Tls, Some(tls)) => {
                let (keys, _) = server_handshake(&socket, tls).context("shake hands")?;
                Link::sealed(socket, keys)
            }
            (ConnectionKind::Tls, None) => bail!("a TLS connection came, and this server has no certificate"),
        };
        let opening = link.opening().context("read the client's first words")?;
        Ok(Admitted { link, opening, kind })
    }
}

/// The lanes of the client.
pub struct Lanes {
    gate: Gate,
    control: Arc<Lane>,
    bulk: OnceLock<Arc<Lane>>,
    arrivals: Arc<Arrivals>,
    outbox: Arc<Outbox>,
    arriving: Mutex<usize>,
    /// Held while a connection takes its place.
    placing: Mutex<()>,
}

impl Lanes {
    /// The lanes of a client whose control lane is there.
    pub fn new(gate: Gate, control: Arc<Lane>, arrivals: Arc<Arrivals>, outbox: Arc<Outbox>) -> Arc<Lanes> {
        let (bulk, arriving, placing) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Arc::new(Lanes { gate, control, bulk, arrivals, outbox, arriving, placing })
    }

    /// Takes the client's further connections, on threads of their own, for as long as the acceptor passes some.
    pub fn take_all(self: &Arc<Self>, control: Arc<Control>) -> anyhow::Result<()> {
        let lanes = Arc::clone(self);
        let take = move || {
            while let Some((passed, descriptor)) = control.next_connection() {
                lanes.take(passed.connection, descriptor);
            }
        };
        std::thread::Builder::new()
            .name("lanes".into())
            .spawn(take)
            .context("wait for further connections")?;
        Ok(())
    }

    fn take(self: &Arc<Self>, kind: ConnectionKind, descriptor: OwnedFd) {
        {
            let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            if *arriving == MOST_ARRIVING {
                tracing::warn!(
                    "{MOST_ARRIVING} connections of the client say nothing; another one is closed"
                );
                return;
            }
            *arriving += 1;
        }
        let lanes = Arc::clone(self);
        let take = move || {
            if let Err(error) = lanes.gate.admit(kind, descriptor).and_then(|admitted| lanes.place(admitted))
            {
                tracing::warn!("a connection of the client is not taken: {error:#}");
            }
            *lanes.arriving.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        };
        if let Err(error) = std::thread::Builder::new().name("arriving".into()).spawn(take) {
            tracing::warn!("a connection of the client is not taken: {error}");
            *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        }
    }

    fn place(&self, admitted: Admitted) -> anyhow::Result<()> {
        let _placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let Admitted { link, opening, kind } = admitted;
        let lane = if opening.is_bulk_lane { self.bulk.get() } else { Some(&self.control) };
        let Some(lane) = lane else {
            if opening.is_resumed {
                return refuse(&link, "the client resumes a lane that this worker never had");
            }
            link.admit(0).context("let the client's bulk lane in")?;
            return self.begin_bulk_lane(kind, link);
        };
        let Some(received) = lane.detach() else {
            return refuse(&link, "the connection that is to be resumed has ended");
        };
        link.admit(received).context("resume a lane")?;
        link.socket().limit_receiving(None);
        tracing::info!(bulk = opening.is_bulk_lane, received, "the client came back");
        lane.attach(link, opening.received);
        Ok(())
    }

    fn begin_bulk_lane(&self, kind: ConnectionKind, link: Link) -> anyhow::Result<()> {
        let lane = self.gate.lane(kind, link);
        if self.bulk.set(Arc::clone(&lane)).is_err() {
            bail!("there is a bulk lane already");
        }
        // Where this fails the client goes on with one lane: it is not told that there is another.
        self.arrivals.start(Arc::clone(&lane), Arc::clone(&self.control))?;
        self.outbox.take_bulk_lane(lane).context("start the bulk lane's sender")
    }
}

fn refuse(link: &Link, reason: &str) -> anyhow::Result<()> {
    let refusal = Refusal { code: CUresult::DEVICE_UNAVAILABLE.0, reason: reason.to_owned() };
    link.refuse(&refusal).context("refuse a connection")?;
    bail!("{reason}")
}
