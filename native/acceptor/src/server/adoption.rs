//! Workers of an earlier acceptor that was killed, or replaced: they have gone on without it.
//!
//! Nothing here waits. A worker is taken into account as soon as its note is found; it may be busy starting and say later
//! who it is. Its session's secret is only known to the agent, so until that has opened the session again connections
//! for it wait (`connections.rs`), as do those for sessions that had no worker and so left no trace.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::UCred;
use rustix::process::PidfdFlags;
use serde_json::json;

use super::{Server, Source, Timer};
use crate::clock;
use crate::poll::{EventFlags, Token};
use crate::protocol::SessionId;
use crate::session::{Session, Worker};
use crate::worker_protocol::{Account, Exit, WorkerView};
use crate::workers_folder::Left;

/// How long an agent may take to open the sessions of an earlier acceptor again, or to close them.
const SETTLE: Duration = Duration::from_secs(60);

impl Server {
    /// Takes over what an earlier acceptor has left. Called before anybody is let in.
    pub(super) fn adopt_all(&mut self) -> anyhow::Result<()> {
        if !self.folder.had_predecessor() {
            return Ok(());
        }
        self.is_settled = false;
        self.poller.after(SETTLE, Timer::Settle);
        for left in self.folder.left()? {
            let connection = left.connection_id.clone();
            if let Err(error) = self.adopt(left) {
                tracing::error!(connection, error = %format!("{error:#}"), "a worker is not taken over");
            }
        }
        tracing::info!(
            sessions = self.sessions.len(),
            workers = self.workers.len(),
            "took over from an earlier acceptor"
        );
        Ok(())
    }

    fn adopt(&mut self, left: Left) -> anyhow::Result<()> {
        let Left { connection_id, note, control } = left;
        let id = SessionId::parse(&note.session_id).context("its note names no session")?;
        let session = self
            .sessions
            .entry(id.clone())
            .or_insert_with(|| Session::left(id.clone(), note.gpus.clone(), note.slots));
        anyhow::ensure!(session.gpus == note.gpus, "session {id} has other GPUs");
        if let Some(view) = note.ended {
            if let Some(forgotten) = session.remember(view) {
                self.folder.remove(&forgotten.connection_id);
            }
            return Ok(());
        }
        let mut view = WorkerView {
            pid: 0,
            connection_id,
            client_pid: None,
            program: None,
            sandbox: None,
            started_at: note.started_at,
            ended_at: None,
            exit: None,
            report: None,
        };
        let Some(control) = control else {
            let account = self.folder.account(&view.connection_id);
            bury(&mut view, account, &session.gpus);
            tracing::info!(target: "audit", session = %id, pid = view.pid, exit = ?view.exit, "worker ended while there was no acceptor");
            self.folder.end(&view);
            if let Some(forgotten) = session.remember(view) {
                self.folder.remove(&forgotten.connection_id);
            }
            return Ok(());
        };
        let name = self.poller.token();
        let control_token = self.watch(&control, EventFlags::IN, Source::WorkerMessages(name))?;
        let worker = Worker {
            session: id.clone(),
            slot: note.slot,
            child: None,
            pidfd: None,
            control: Some((control_token, control)),
            view,
            ledger: Some(note.ledger),
            doom: None,
            has_sent_nonsense: false,
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.add_worker(name, note.slot);
        }
        self.workers.insert(name, worker);
        Ok(())
    }

    /// A worker of an earlier acceptor says who it is.
    pub(super) fn finish_adoption(
        &mut self,
        name: Token,
        account: Account,
        sender: Option<UCred>,
        ledger: Option<OwnedFd>,
    ) -> anyhow::Result<()> {
        let worker = self.workers.get_mut(&name).context("it is gone")?;
        let Some(expected) = worker.ledger.take() else { anyhow::bail!("it is this acceptor's own") };
        let sender = sender.context("the kernel does not say who it is")?;
        let (_, control) = worker.control.as_ref().context("it has closed its socket")?;
        let pidfd = rustix::process::pidfd_open(sender.pid, PidfdFlags::empty()).context("open its pidfd")?;
        // Had it ended before, its socket would be closed by now, and the number might be another process's.
        let mut ends = [PollFd::new(control, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        anyhow::ensure!(rustix::event::poll(&mut ends, Some(&at_once))? == 0, "it has ended");
        worker.view.pid = sender.pid.as_raw_nonzero().get();
        let (session, pid) = (worker.session.clone(), worker.view.pid);
        fill(&mut worker.view, account);
        let is_started = worker.view.client_pid.is_some();
        let doom = worker.doom.take();
        let token = self.watch(&pidfd, EventFlags::IN, Source::WorkerEnd(name))?;
        if let Some(worker) = self.workers.get_mut(&name) {
            worker.pidfd = Some((token, pidfd));
        }
        if let Some(signal) = doom {
            self.signal_worker(name, signal);
        }
        tracing::info!(target: "audit", %session, pid, "worker taken over");
        let held = self.sessions.get_mut(&session).context("its session is gone")?;
        if let Some(worker) = self.workers.get_mut(&name)
            && let Some(report) = &mut worker.view.report
        {
            report.restrict_to(&held.gpus);
        }
        let ledger = ledger.context("it brings no ledger");
        match ledger.and_then(|ledger| held.bring_ledger(ledger, expected)) {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%session, pid, error = %format!("{error:#}"), "a worker's ledger is not taken")
            }
        }
        if is_started && let Some(worker) = self.workers.get(&name) {
            let event = json!({"event": "workerStarted", "sessionId": session, "worker": worker.view});
            self.publish(&event);
        }
        self.route_waiting(Some(&session));
        Ok(())
    }

    /// What is known of the end of a worker that is no child of this acceptor.
    pub(super) fn bury_adopted(&self, worker: &mut Worker) {
        let gpus = self.sessions.get(&worker.session).map_or(&[][..], |session| &session.gpus);
        let account = self.folder.account(&worker.view.connection_id);
        bury(&mut worker.view, account, gpus);
    }

    /// The time is over in which an agent can take care of what an earlier acceptor has left.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        let forgotten: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|session| session.opened.is_none())
            .map(|session| session.id.clone())
            .collect();
        for id in forgotten {
            let seconds = SETTLE.as_secs();
            self.begin_close(
                &id,
                &format!("no agent has opened it again for {seconds} seconds after a restart"),
            );
            self.finish_close(&id);
        }
        self.route_waiting(None);
    }
}

/// What the account says and nothing better is known of.
fn fill(view: &mut WorkerView, account: Account) {
    view.client_pid = view.client_pid.or(account.client_pid);
    view.program = view.program.take().or(account.program);
    view.sandbox = view.sandbox.take().or(account.sandbox);
    view.report = account.report.or(view.report.take());
}

fn bury(view: &mut WorkerView, account: Account, gpus: &[crate::protocol::Gpu]) {
    if view.pid == 0 {
        view.pid = account.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    }
    view.exit = account.exit.map(Exit::Code);
    view.ended_at = Some(clock::now());
    fill(view, account);
    if let Some(report) = &mut view.report {
        report.restrict_to(gpus);
    }
}
