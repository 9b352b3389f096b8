//! The loop: every source of events, and what each event leads to.

mod adoption;
mod agents;
mod connections;
mod workers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control::ControlClient;
use crate::inherited::Inherited;
use crate::listen::{UnixSocket, bind_tcp, inherit_tcp};
use crate::options::Options;
use crate::pending::Pending;
use crate::poll::{EventFlags, Poller, Ready, Token};
use crate::protocol::SessionId;
use crate::session::{Session, Worker};
use crate::spawn::Spawner;
use crate::worker_protocol::WorkerView;
use crate::workers_folder::WorkersFolder;

/// How long workers may take to end after TERM, before KILL.
const TERM_GRACE: Duration = Duration::from_secs(1);
/// How long the acceptor, ending, waits for workers that even KILL does not end (stuck in a driver).
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a token names.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals(Stop),
    Tcp,
    Unix,
    Control,
    Pending,
    Agent,
    /// The pidfd of the worker with this name.
    WorkerEnd(Token),
    /// The control socket of the worker with this name.
    WorkerMessages(Token),
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// SIGTERM: as the options say.
    Usual,
    /// SIGINT: the end of everything.
    All,
}

/// What happens later. A timer whose object is gone by then does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Preface(Token),
    Refused(Token),
    Waited(Token),
    ReadAgain(Token),
    Kill(Token),
    Settle,
    AcceptAgain,
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Stopping,
    /// Workers go on without this acceptor.
    Leaving,
    GaveUp,
}

/// The acceptor.
pub struct Server {
    options: Options,
    driver: String,
    spawner: Spawner,
    poller: Poller<Timer>,
    sources: HashMap<Token, Source>,
    signals: [(Stop, UnixStream); 2],
    folder: WorkersFolder,
    /// False for as long as sessions may be unknown only because an earlier acceptor knew them.
    is_settled: bool,
    tcp: Option<(Token, TcpListener)>,
    unix: Option<(Token, UnixSocket)>,
    control: Option<(Token, UnixSocket)>,
    port: u16,
    /// Not accepted yet; tokens grow, so the first is the oldest.
    pending: BTreeMap<Token, Pending>,
    agents: BTreeMap<Token, ControlClient>,
    sessions: BTreeMap<SessionId, Session>,
    workers: HashMap<Token, Worker>,
    /// Sessions that have ended, the latest last, and why.
    ended: VecDeque<(SessionId, String)>,
    /// Ended workers of sessions that are over, of which the manager may not know everything.
    closed: VecDeque<(SessionId, WorkerView)>,
    phase: Phase,
}

impl Server {
    /// Takes over what an earlier acceptor has left, and opens the sockets, but for those that were `inherited`.
    pub fn new(options: Options, inherited: Inherited) -> anyhow::Result<Server> {
        raise_descriptor_limit();
        let spawner =
            Spawner::new(options.worker.clone(), &options.driver).context("cannot open /dev/null")?;
        let driver = options.driver.to_str().context("the driver's path is not UTF-8")?.to_owned();
        let mut poller = Poller::new().context("cannot make an epoll instance")?;
        let mut sources = HashMap::new();
        let mut watch = |fd: &dyn AsFdObject, source| -> anyhow::Result<Token> {
            let token = poller.add(fd.fd(), EventFlags::IN)?;
            sources.insert(token, source);
            Ok(token)
        };

        let mut catch = |signal, stop| -> anyhow::Result<(Stop, UnixStream)> {
            let (signals, sender) = UnixStream::pair()?;
            signals.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal, sender).context("cannot handle signals")?;
            watch(&signals, Source::Signals(stop))?;
            Ok((stop, signals))
        };
        let signals = [catch(SIGTERM, Stop::Usual)?, catch(SIGINT, Stop::All)?];

        let control = match inherited.control {
            Some(socket) => UnixSocket::inherit(socket, &options.control)?,
            None => UnixSocket::bind(&options.control, 0o600)?,
        };
        let unix = match (inherited.unix, &options.unix) {
            (Some(socket), Some(path)) => Some(UnixSocket::inherit(socket, path)?),
            (Some(_), None) => {
                anyhow::bail!("a socket data-unix was passed, but --unix does not say where it is")
            }
            (None, path) => {
                path.as_deref().map(|path| UnixSocket::bind(path, options.unix_mode)).transpose()?
            }
        };
        let tcp = match inherited.tcp {
            Some(socket) => inherit_tcp(socket)?,
            None => bind_tcp(options.listen)?,
        };
        let folder = WorkersFolder::open(&options.workers)?;
        let port = tcp.local_addr()?.port();
        let control = (watch(&control.listener, Source::Control)?, control);
        let unix = unix.map(|unix| anyhow::Ok((watch(&unix.listener, Source::Unix)?, unix))).transpose()?;
        let tcp = (watch(&tcp, Source::Tcp)?, tcp);
        tracing::info!(
            pid = std::process::id(),
            address = %tcp.1.local_addr()?.ip(),
            port,
            control = %options.control.display(),
            unix = options.unix.as_ref().map(|path| path.display().to_string()),
            "listening"
        );
        let mut server = Server {
            options,
            driver,
            spawner,
            poller,
            sources,
            signals,
            folder,
            is_settled: true,
            tcp: Some(tcp),
            unix,
            control: Some(control),
            port,
            pending: BTreeMap::new(),
            agents: BTreeMap::new(),
            sessions: BTreeMap::new(),
            workers: HashMap::new(),
            ended: VecDeque::new(),
            closed: VecDeque::new(),
            phase: Phase::Serving,
        };
        server.adopt_all()?;
        Ok(server)
    }

    /// Runs until SIGTERM or SIGINT, and until every worker has ended then.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            for ready in self.poller.wait().context("cannot wait for events")? {
                self.handle(ready);
            }
            while let Some(timer) = self.poller.due() {
                self.handle_timer(timer);
            }
            match self.phase {
                Phase::Serving => {}
                Phase::Stopping if self.workers.is_empty() => {
                    self.folder.close(self.closed.is_empty());
                    tracing::info!("stopped");
                    return Ok(());
                }
                Phase::Leaving => return Ok(()),
                Phase::Stopping => {}
                Phase::GaveUp => anyhow::bail!("{} workers did not end, even killed", self.workers.len()),
            }
        }
    }

    fn handle(&mut self, ready: Ready) {
        // An earlier event of the same batch may have ended what this one is about.
        let Some(source) = self.sources.get(&ready.token).copied() else { return };
        match source {
            Source::Signals(stop) => self.handle_signal(stop),
            Source::Tcp | Source::Unix => self.accept_data(source),
            Source::Control => self.accept_agents(),
            Source::Pending => self.read_pending(ready.token),
            Source::Agent => self.handle_agent(ready),
            Source::WorkerEnd(worker) => self.end_worker(worker),
            Source::WorkerMessages(worker) => self.read_worker(worker),
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Preface(token) => self.expire_preface(token),
            Timer::Refused(token) => self.drop_pending(token),
            Timer::Waited(token) => self.expire_waiting(token),
            Timer::ReadAgain(token) => self.read_again(token),
            Timer::Settle => self.settle(),
            Timer::Kill(worker) => self.signal_worker(worker, Signal::KILL),
            Timer::AcceptAgain => self.watch_listeners(EventFlags::IN),
            Timer::GiveUp => self.phase = Phase::GaveUp,
        }
    }

    /// TERM or INT: closes everything, unless it is TERM and the workers are to go on; a second one does not wait for the
    /// grace period.
    fn handle_signal(&mut self, stop: Stop) {
        let mut bytes = [0; 64];
        for (_, signals) in self.signals.iter().filter(|(other, _)| *other == stop) {
            let _ = rustix::io::read(signals, &mut bytes[..]);
        }
        if self.phase == Phase::Serving && stop == Stop::Usual && self.options.keeps_workers {
            tracing::info!(
                sessions = self.sessions.len(),
                workers = self.workers.len(),
                "leaving; workers go on"
            );
            self.refuse_all_pending();
            self.phase = Phase::Leaving;
            return;
        }
        if self.phase != Phase::Serving {
            let workers: Vec<Token> = self.workers.keys().copied().collect();
            workers.into_iter().for_each(|worker| self.signal_worker(worker, Signal::KILL));
            return;
        }
        tracing::info!(sessions = self.sessions.len(), workers = self.workers.len(), "stopping");
        self.phase = Phase::Stopping;
        self.poller.after(STOP_LIMIT, Timer::GiveUp);
        if let Some((token, tcp)) = self.tcp.take() {
            self.forget(token, &tcp);
        }
        for (token, unix) in [self.unix.take(), self.control.take()].into_iter().flatten() {
            self.forget(token, &unix.listener);
        }
        self.refuse_all_pending();
        let sessions: Vec<SessionId> = self.sessions.keys().cloned().collect();
        for session in sessions {
            self.begin_close(&session, "the acceptor stops");
        }
    }

    fn watch(&mut self, fd: impl AsFd, flags: EventFlags, source: Source) -> std::io::Result<Token> {
        let token = self.poller.add(fd, flags)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    fn forget(&mut self, token: Token, fd: impl AsFd) {
        self.sources.remove(&token);
        self.poller.remove(fd);
    }

    /// Called when `accept` has no descriptor left: the waiting connections would be reported without end.
    fn pause_accepting(&mut self, error: &std::io::Error) {
        tracing::error!(%error, "cannot accept connections, trying again in {} ms", ACCEPT_PAUSE.as_millis());
        self.watch_listeners(EventFlags::empty());
        self.poller.after(ACCEPT_PAUSE, Timer::AcceptAgain);
    }

    fn watch_listeners(&self, flags: EventFlags) {
        let tcp = self.tcp.as_ref().map(|(token, listener)| (*token, listener.as_fd()));
        let unix = [&self.unix, &self.control].into_iter().flatten();
        let unix = unix.map(|(token, socket)| (*token, socket.listener.as_fd()));
        for (token, listener) in tcp.into_iter().chain(unix) {
            if let Err(error) = self.poller.modify(listener, token, flags) {
                tracing::error!(%error, "cannot change what is watched of a listening socket");
            }
        }
    }
}

/// `AsFd` is not usable behind `dyn` because of its blanket implementations for smart pointers.
trait AsFdObject {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdObject for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

/// Two descriptors per living worker: the usual soft limit of 1,024 would end at some 500 workers.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
