//! The loop of a worker: records in, calls executed in order, replies out.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use cuda_abi::CUresult;
use ledger::Ledger;
use session::{DeferredErrors, ReplyHead, RequestOrder};
use transport::Socket;
use wire::handshake::{Goodbye, Hello, Refused};
use wire::record::{HEADER_BYTES, encode_record, flags};
use wire::{CallId, Header, Reader, Reply as _, Request as _, WireError, Writer};

use crate::control::{self, Control};
use crate::counters::Counters;
use crate::end;
use crate::generated::dispatch;
use crate::memory::Memory;
use crate::snapshot;
use crate::worker::Worker;

/// Bytes asked from the socket at once.
const RECEIVE_BYTES: usize = 1 << 20;

/// Replies are sent when this many bytes have gathered, or when no further request is waiting.
const SEND_FROM: usize = 256 << 10;

/// Serves the one client that the acceptor handed over, until it closes.
pub fn run() -> anyhow::Result<()> {
    let (control, ledger) = control::inherited()?;
    let term = end::catch_term().context("catch TERM")?;
    let control = Arc::new(control);
    let (assignment, client) = control.assignment()?;
    let socket = Socket::from_descriptor(client);
    let counters = Arc::new(Counters::default());
    let ledger = Ledger::open(&ledger).context("open the session's ledger")?;
    let memory =
        Arc::new(Memory::new(&ledger, assignment.slot, assignment.gpus.clone(), Arc::clone(&counters))?);
    let watched = socket.as_fd().try_clone_to_owned().context("copy the client's descriptor")?;
    end::watch(watched, term, Arc::clone(&control), Arc::clone(&counters), Arc::clone(&memory))?;
    control::report_regularly(Arc::clone(&control), Arc::clone(&counters), Arc::clone(&memory))?;
    tracing::info!(session = assignment.session_id, connection = assignment.connection_id, "serving");

    let worker = match Worker::open(&assignment, Arc::clone(&memory), Arc::clone(&counters)) {
        Ok(worker) => worker,
        Err(error) => {
            refuse(&socket, &format!("the GPU server cannot use its driver: {error:#}"));
            return Err(error);
        }
    };
    let mut connection = Connection {
        socket,
        worker,
        order: RequestOrder::default(),
        deferred: DeferredErrors::default(),
        outgoing: Vec::new(),
        body: Vec::new(),
        control: Arc::clone(&control),
        server_name: assignment.server_name,
    };
    let code = match connection.serve() {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error:#}");
            1
        }
    };
    end::leave(&control, &counters, &memory, code)
}

fn refuse(socket: &Socket, reason: &str) {
    let mut record = Vec::new();
    let refused = Refused { code: CUresult::SYSTEM_NOT_READY.0, reason: reason.to_owned() };
    encode_record(&mut record, CallId::REFUSED, 0, 0, 0, |writer| refused.encode(writer));
    if let Err(error) = socket.send_all(&[&record]) {
        tracing::debug!("the refusal did not reach the client: {error}");
    }
}

struct Connection {
    socket: Socket,
    worker: Worker,
    order: RequestOrder,
    deferred: DeferredErrors,
    outgoing: Vec<u8>,
    body: Vec<u8>,
    control: Arc<Control>,
    server_name: String,
}

impl Connection {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut buffer: Vec<u8> = Vec::with_capacity(2 * RECEIVE_BYTES);
        let mut scratch = vec![0; RECEIVE_BYTES];
        loop {
            let mut start = 0;
            while let Some(record) = next_record(&buffer[start..])? {
                let payload = start + HEADER_BYTES..start + HEADER_BYTES + record.length as usize;
                start = payload.end;
                self.execute(&record, &buffer[payload])?;
                if self.outgoing.len() >= SEND_FROM {
                    self.flush()?;
                }
            }
            buffer.drain(..start);
            self.flush()?;
            // A large record is received straight into its place.
            let missing = missing_bytes(&buffer);
            if missing > RECEIVE_BYTES {
                let have = buffer.len();
                buffer.resize(have + missing, 0);
                self.socket.receive_exact(&mut buffer[have..]).context("the client died within a record")?;
                Counters::add(&self.worker.counters.bytes_received, missing as u64);
                continue;
            }
            let count = match self.socket.receive(&mut scratch) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error).context("receive from the client"),
            };
            Counters::add(&self.worker.counters.bytes_received, count as u64);
            buffer.extend_from_slice(&scratch[..count]);
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        Counters::add(&self.worker.counters.bytes_sent, self.outgoing.len() as u64);
        let sent = self.socket.send_all(&[&self.outgoing]);
        self.outgoing.clear();
        sent.context("send to the client")
    }

    fn execute(&mut self, header: &Header, payload: &[u8]) -> Result<(), WireError> {
        self.order.admit(header)?;
        let wants_reply = header.flags & flags::WANTS_REPLY != 0;
        let mut reader = Reader::new(payload);
        self.body.clear();
        let result = match header.call {
            CallId::HELLO => self.hello(reader)?,
            CallId::GOODBYE => self.goodbye(reader)?,
            call => {
                let started = Instant::now();
                let counters = Arc::clone(&self.worker.counters);
                Counters::add(&counters.calls, 1);
                if wants_reply {
                    Counters::add(&counters.round_trips, 1);
                }
                let result = self.worker.in_context(call, header.context, |worker| {
                    dispatch::dispatch(worker, call, &mut reader, &mut Writer::new(&mut self.body))
                })?;
                let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                Counters::add(&counters.busy_nanoseconds, elapsed);
                result
            }
        };
        if wants_reply {
            self.reply(header, result);
        } else if result != CUresult::SUCCESS {
            self.deferred.note(header.call, result.0);
        }
        Ok(())
    }

    fn reply(&mut self, request: &Header, result: CUresult) {
        let head = ReplyHead { result: result.0, deferred: self.deferred.take() };
        encode_record(&mut self.outgoing, request.call, head.flags(), 0, request.sequence, |writer| {
            head.encode(writer);
            writer.put_raw(&self.body);
        });
    }

    fn hello(&mut self, mut reader: Reader<'_>) -> Result<CUresult, WireError> {
        let hello = Hello::decode(&mut reader);
        reader.finish(CallId::HELLO)?;
        self.control.started(hello.pid, &hello.program);
        match snapshot::take(&self.worker, &self.server_name) {
            Ok(welcome) => {
                welcome.encode(&mut Writer::new(&mut self.body));
                Ok(CUresult::SUCCESS)
            }
            Err(code) => Ok(code),
        }
    }

    fn goodbye(&mut self, mut reader: Reader<'_>) -> Result<CUresult, WireError> {
        let goodbye = Goodbye::decode(&mut reader);
        reader.finish(CallId::GOODBYE)?;
        Counters::add(&self.worker.counters.local_calls, goodbye.local_calls);
        Ok(CUresult::SUCCESS)
    }
}

/// The header of the record at the start of `bytes`, if it is wholly there.
fn next_record(bytes: &[u8]) -> Result<Option<Header>, WireError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::decode(header)?;
    Ok((bytes.len() - HEADER_BYTES >= header.length as usize).then_some(header))
}

/// Bytes that the record at the start of `bytes` still lacks (0 when not even its header is there).
fn missing_bytes(bytes: &[u8]) -> usize {
    bytes
        .first_chunk::<HEADER_BYTES>()
        .and_then(|header| Header::decode(header).ok())
        .map_or(0, |header| (HEADER_BYTES + header.length as usize).saturating_sub(bytes.len()))
}
