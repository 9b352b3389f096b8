//! The client's connections: who may come in, and which lane a connection carries on.
//!
//! The acceptor passes each connection as it came; its TLS handshake and its first words are read here. The first one
//! is served by the main thread, all others by threads of their own, as their clients may say nothing for a while.

use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cuda_abi::CUresult;
use transport::{Lane, Link, Opening, Refusal, ServerTls, Socket, WorkerIdentity, server_handshake};

use crate::admission::{Admission, Other};
use crate::assignment::{Assignment, ConnectionKind};
use crate::bulk::Arrivals;
use crate::control::{Arrival, Control};
use crate::outbox::Outbox;
use crate::wake::Wake;

/// How long a client may take for its handshake and first words.
const FIRST_WORDS: Duration = Duration::from_secs(5);

/// Connections whose first words are awaited at once.
const MOST_ARRIVING: usize = 8;

/// What connections come through.
#[derive(Debug)]
pub struct Gate {
    admission: Admission,
    grace: Duration,
    wake: Arc<Wake>,
    control: Arc<Control>,
}

/// A connection that was let in.
struct Admitted {
    link: Link,
    opening: Opening,
    kind: ConnectionKind,
}

impl Gate {
    /// The gate of the session of `assignment`; `wake` is told when a connection comes or goes.
    pub fn new(assignment: &Assignment, wake: Arc<Wake>, control: Arc<Control>) -> anyhow::Result<Gate> {
        let Assignment { session_id, connection_id, trust, .. } = assignment;
        let admission = Admission::new(session_id.clone(), connection_id, trust.clone())?;
        Ok(Gate { admission, grace: assignment.grace(), wake, control })
    }

    /// Shakes hands with the client's first connection and makes its control lane.
    pub fn first(&self, kind: ConnectionKind, arrival: Arrival) -> anyhow::Result<Arc<Lane>> {
        let Admitted { link, opening, kind } = self.admit(kind, arrival)?;
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

    fn admit(&self, kind: ConnectionKind, arrival: Arrival) -> anyhow::Result<Admitted> {
        let socket = Socket::from_descriptor(arrival.client);
        socket.limit_receiving(Some(FIRST_WORDS));
        let (mut link, other) = match kind {
            ConnectionKind::Unix => {
                let other = Other::of_unix_socket(&socket).context("ask who has connected")?;
                (Link::plain(socket), other)
            }
            ConnectionKind::Tcp => (Link::plain(socket), Other::Unknown),
            ConnectionKind::Tls => {
                let identity = arrival.identity.context("this server has no certificate for TLS")?;
                let tls = ServerTls::new(&WorkerIdentity::read_from(File::from(identity))?)?;
                let (keys, key) = server_handshake(&socket, &tls).context("shake hands")?;
                (Link::sealed(socket, keys), Other::Key(key))
            }
        };
        let opening = link.opening().context("read the client's first words")?;
        if let Err(refusal) = self.admission.check(&opening, &other) {
            self.control.refused(&refusal.reason);
            return Err(refuse(&link, refusal));
        }
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

    /// Takes the client's further connections, on threads of their own, from whichever acceptor passes some. When there
    /// was none for as long as `patience`, `orphaned` is called.
    pub fn take_all(
        self: &Arc<Self>,
        control: Arc<Control>,
        patience: Duration,
        orphaned: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let lanes = Arc::clone(self);
        let take = move || {
            while let Some((passed, arrival)) = control.next_connection(patience) {
                lanes.gate.admission.renew(passed.trust);
                lanes.take(passed.connection, arrival);
            }
            orphaned();
        };
        std::thread::Builder::new()
            .name("lanes".into())
            .spawn(take)
            .context("wait for further connections")?;
        Ok(())
    }

    fn take(self: &Arc<Self>, kind: ConnectionKind, arrival: Arrival) {
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
            if let Err(error) = lanes.gate.admit(kind, arrival).and_then(|admitted| lanes.place(admitted)) {
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
                return Err(refuse(&link, lost("the client resumes a lane that this worker never had")));
            }
            link.admit(0).context("let the client's bulk lane in")?;
            return self.begin_bulk_lane(kind, link);
        };
        let Some(received) = lane.detach() else {
            return Err(refuse(&link, lost("the connection that is to be resumed has ended")));
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

fn lost(reason: &str) -> Refusal {
    Refusal { code: CUresult::DEVICE_UNAVAILABLE.0, reason: reason.to_owned() }
}

/// Tells the client, and answers why it was refused.
fn refuse(link: &Link, refusal: Refusal) -> anyhow::Error {
    if let Err(error) = link.refuse(&refusal) {
        tracing::debug!("the refusal did not reach the client: {error}");
    }
    refusal.into()
}
