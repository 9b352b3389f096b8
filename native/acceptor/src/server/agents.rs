//! Control connections: agents come, ask, subscribe and go; the sessions stay.

use std::collections::HashSet;
use std::io;

use serde_json::{Value, json};

use super::connections::is_out_of_descriptors;
use super::{Phase, Server, Source};
use crate::clock;
use crate::control::{ControlClient, Dropped};
use crate::poll::{EventFlags, Ready, Token};
use crate::protocol::{ControlError, Operation, Request, SessionId, SessionSpec, answer};
use crate::session::Session;
use crate::worker_protocol::WorkerView;

/// Sessions whose end is remembered.
const MAX_ENDED: usize = 1024;
/// Ended workers of sessions that are over, which are kept until an agent says that the manager knows of them.
const MAX_CLOSED: usize = 16 << 10;
/// Control connections at once; one agent needs one, people looking around need some more.
const MAX_AGENTS: usize = 64;

impl Server {
    pub(super) fn accept_agents(&mut self) {
        while let Some((_, control)) = &self.control {
            let (socket, peer) = match control.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_out_of_descriptors(&error) => return self.pause_accepting(&error),
                Err(error) => {
                    tracing::debug!(%error, "a control connection was lost before it was accepted");
                    continue;
                }
            };
            if self.agents.len() >= MAX_AGENTS {
                tracing::warn!(%peer, "more than {MAX_AGENTS} control connections, the new one is closed");
                continue;
            }
            match self.watch(&socket, EventFlags::IN, Source::Agent) {
                Ok(token) => {
                    tracing::debug!(%peer, "control connection");
                    self.agents.insert(token, ControlClient::new(socket));
                }
                Err(error) => tracing::error!(%error, "cannot watch a control connection"),
            }
        }
    }

    pub(super) fn handle_agent(&mut self, ready: Ready) {
        let token = ready.token;
        let Some(agent) = self.agents.get_mut(&token) else { return };
        if ready.flags.intersects(EventFlags::OUT)
            && let Err(reason) = agent.flush()
        {
            return self.drop_agent(token, &reason.to_string());
        }
        if ready.flags.intersects(EventFlags::IN) {
            match agent.read() {
                Ok(lines) => lines.iter().for_each(|line| self.handle_line(token, line)),
                Err(reason) => {
                    if reason == Dropped::LongLine {
                        let error = ControlError::new("badRequest", reason.to_string());
                        self.send_to_agent(token, &answer(Value::Null, Err(error)));
                    }
                    return self.drop_agent(token, &reason.to_string());
                }
            }
        } else if ready.flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return self.drop_agent(token, "it is gone");
        }
        self.settle_agent(token);
    }

    fn handle_line(&mut self, token: Token, line: &[u8]) {
        let request = Request::parse(line);
        let result = match request.operation {
            Ok(Operation::CloseSession { session, reason }) => {
                return self.close_session(token, request.id, &session, &reason);
            }
            Ok(Operation::Hello) => Ok(json!({
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "port": self.port,
                "unixPath": self.options.unix,
                "workerSandbox": self.options.worker_sandbox,
            })),
            Ok(Operation::OpenSession(spec)) => self.open_session(spec).map(|()| json!({})),
            Ok(Operation::Status) => Ok(self.status()),
            Ok(Operation::Forget { workers }) => {
                self.forget_ended(&workers);
                Ok(json!({}))
            }
            Ok(Operation::Subscribe) => {
                if let Some(agent) = self.agents.get_mut(&token) {
                    agent.is_subscribed = true;
                }
                Ok(json!({}))
            }
            Err(error) => Err(error),
        };
        self.send_to_agent(token, &answer(request.id, result));
    }

    fn open_session(&mut self, spec: SessionSpec) -> Result<(), ControlError> {
        let id = spec.id.clone();
        if self.phase != Phase::Serving {
            return Err(ControlError::new("closing", "the acceptor stops"));
        }
        if let Some(session) = self.sessions.get(&id) {
            return match &session.closing {
                Some(_) => Err(ControlError::new("closing", format!("session {id} is closing"))),
                None if session.opened.as_ref().is_some_and(|opened| opened.is_same_as(&spec)) => {
                    if let Some(opened) =
                        self.sessions.get_mut(&id).and_then(|session| session.opened.as_mut())
                    {
                        opened.renew(spec);
                    }
                    Ok(())
                }
                None if session.opened.is_none() && session.gpus == spec.gpus => {
                    tracing::info!(target: "audit", session = %id, "session opened again");
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.opened = Some(spec);
                    }
                    self.route_waiting(Some(&id));
                    Ok(())
                }
                None => {
                    let message = format!("session {id} is open with another secret or other GPUs");
                    Err(ControlError::new("sessionConflict", message))
                }
            };
        }
        let gpus = spec.gpus.len();
        let session = Session::new(spec, self.options.workers_per_session)
            .map_err(|error| ControlError::new("internal", error.to_string()))?;
        tracing::info!(target: "audit", session = %id, gpus, "session opened");
        self.sessions.insert(id.clone(), session);
        self.route_waiting(Some(&id));
        Ok(())
    }

    fn close_session(&mut self, token: Token, request: Value, id: &SessionId, reason: &str) {
        if !self.sessions.contains_key(id) {
            let error = ControlError::new("unknownSession", format!("session {id} is not open"));
            return self.send_to_agent(token, &answer(request, Err(error)));
        }
        self.begin_close(id, reason);
        let closing = self.sessions.get_mut(id).and_then(|session| session.closing.as_mut());
        if let (Some(closing), Some(agent)) = (closing, self.agents.get_mut(&token)) {
            closing.waiting.push((token, request));
            agent.owed += 1;
        }
        self.finish_close(id);
    }

    fn status(&self) -> Value {
        let sessions: Vec<Value> = self
            .sessions
            .values()
            .map(|session| {
                let living = session.workers.iter().filter_map(|token| self.workers.get(token));
                // Of a worker of an earlier acceptor that has not said who it is nothing can be told.
                let living = living.map(|worker| &worker.view).filter(|view| view.pid != 0);
                let workers: Vec<_> = session.ended().chain(living).collect();
                let is_open = session.opened.is_some();
                json!({"id": session.id, "gpus": session.gpus, "isOpen": is_open, "workers": workers})
            })
            .collect();
        let closed = self.closed.iter();
        let ended: Vec<_> = closed.map(|(id, worker)| json!({"sessionId": id, "worker": worker})).collect();
        json!({"sessions": sessions, "ended": ended})
    }

    /// Workers that have ended and of which the manager knows everything.
    fn forget_ended(&mut self, connections: &[String]) {
        let connections: HashSet<&str> = connections.iter().map(String::as_str).collect();
        let is_meant = |view: &WorkerView| connections.contains(view.connection_id.as_str());
        let closed = std::mem::take(&mut self.closed).into_iter();
        let (forgotten, kept): (Vec<_>, Vec<_>) = closed.partition(|(_, view)| is_meant(view));
        self.closed = kept.into();
        let of_sessions = self.sessions.values_mut().flat_map(|session| session.forget_ended(is_meant));
        let forgotten: Vec<_> = forgotten.into_iter().map(|(_, view)| view).chain(of_sessions).collect();
        forgotten.iter().for_each(|view| self.folder.remove(&view.connection_id));
    }

    /// Keeps what is known of the workers of a session that is over until the manager knows it, too.
    pub(super) fn keep_ended(&mut self, id: &SessionId, workers: impl Iterator<Item = WorkerView>) {
        self.closed.extend(workers.map(|worker| (id.clone(), worker)));
        while self.closed.len() > MAX_CLOSED
            && let Some((session, worker)) = self.closed.pop_front()
        {
            tracing::warn!(%session, connection = worker.connection_id, "no agent has asked for a worker's last words");
            self.folder.remove(&worker.connection_id);
        }
    }

    /// The late answer to a request of `token`, who may be gone.
    pub(super) fn answer_later(&mut self, token: Token, request: Value, results: Value) {
        let Some(agent) = self.agents.get_mut(&token) else { return };
        agent.owed = agent.owed.saturating_sub(1);
        self.send_to_agent(token, &answer(request, Ok(results)));
        self.settle_agent(token);
    }

    /// Sends an event to everybody who subscribed.
    pub(super) fn publish(&mut self, event: &Value) {
        let subscribed: Vec<Token> =
            self.agents.iter().filter(|(_, agent)| agent.is_subscribed).map(|(token, _)| *token).collect();
        for token in subscribed {
            self.send_to_agent(token, event);
            self.settle_agent(token);
        }
    }

    /// Tells everybody who subscribed that a connection was turned away.
    pub(super) fn publish_refusal(
        &mut self,
        session: Option<&str>,
        connection: Option<&str>,
        reason: &str,
        peer: &str,
    ) {
        self.publish(&json!({
            "event": "refused",
            "sessionId": session,
            "connectionId": connection,
            "reason": reason,
            "peer": peer,
            "at": clock::now(),
        }));
    }

    /// Remembers why a session ended, for clients that come too late.
    pub(super) fn remember_end(&mut self, id: &SessionId, reason: &str) {
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((id.clone(), reason.to_owned()));
    }

    /// Why a session ended, if it was one of the last.
    pub(super) fn end_of(&self, id: &SessionId) -> Option<&str> {
        self.ended.iter().rev().find(|(ended, _)| ended == id).map(|(_, reason)| reason.as_str())
    }

    fn send_to_agent(&mut self, token: Token, line: &Value) {
        let Some(agent) = self.agents.get_mut(&token) else { return };
        if let Err(reason) = agent.send(line) {
            self.drop_agent(token, &reason.to_string());
        }
    }

    /// Closes a connection that is done; for the others, watches what they now wait for.
    fn settle_agent(&mut self, token: Token) {
        let Some(agent) = self.agents.get_mut(&token) else { return };
        if agent.is_done() {
            return self.drop_agent(token, "it has ended");
        }
        let wanted = agent.wanted();
        if wanted == agent.watched {
            return;
        }
        agent.watched = wanted;
        if let Err(error) = self.poller.modify(&agent.socket, token, wanted) {
            self.drop_agent(token, &error.to_string());
        }
    }

    fn drop_agent(&mut self, token: Token, reason: &str) {
        if let Some(agent) = self.agents.remove(&token) {
            tracing::debug!(reason, "control connection closed");
            self.forget(token, &agent.socket);
        }
    }
}
