//! The loop of a worker: records in, calls executed in order, replies out.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cuda_abi::CUresult;
use ledger::Ledger;
use rustix::event::{PollFd, PollFlags, poll};
use session::RequestOrder;
use transport::Lane;
use wire::handle::Stream;
use wire::handshake::{Goodbye, Hello, Refused};
use wire::record::{MAX_PAYLOAD, encode_record, flags};
use wire::{CallId, Header, Reader, Reply as _, Request as _, WireError, Writer};

use crate::bulk::{Arrivals, Data};
use crate::control::{self, Control};
use crate::counters::Counters;
use crate::end;
use crate::generated::dispatch;
use crate::generated::touched::{is_on_legacy_stream, touched};
use crate::inbox::Inbox;
use crate::lanes::{Gate, Lanes};
use crate::launches::launch_again;
use crate::manual::{stream_of, waiting};
use crate::memory::Memory;
use crate::outbox::{Outbox, ReplyTo};
use crate::output::Output;
use crate::parked::{Parked, ParkedRecord, Touches};
use crate::sandbox::{Place, Sandbox};
use crate::snapshot;
use crate::wake::Wake;
use crate::worker::{self, Later, Worker};

/// How long the issuing thread looks for records and after waits before it sleeps: about what waking it costs.
const PATIENCE: Duration = Duration::from_micros(50);

/// Replies are sent when this many bytes have gathered, or when no further request is waiting.
const SEND_FROM: usize = 256 << 10;

/// Bytes that may wait for a client that does not read. Copies stop far below; only who asks and asks and never hears the
/// answers gets here.
const UNREAD_LIMIT: usize = 1 << 30;

/// Serves the one client that the acceptor handed over, until it closes.
pub fn run() -> anyhow::Result<()> {
    let (control, ledger) = control::inherited()?;
    let term = end::catch_term().context("catch TERM")?;
    let control = Arc::new(control);
    let (assignment, client) = control.assignment()?;
    let wake = Arc::new(Wake::new().context("make the descriptor that wakes the issuing thread")?);
    let gate = Gate::new(&assignment, Arc::clone(&wake), Arc::clone(&control))?;
    let lane = gate.first(assignment.connection, client)?;
    let driver = match worker::load(&assignment.driver) {
        Ok(driver) => driver,
        Err(error) => return cannot_serve(&lane, error),
    };
    // Before the first other thread, on which Landlock would not hold.
    let place = Place { driver: driver.path(), simulated: driver.simulated().is_some() };
    let mut sandbox = Sandbox::close_files(assignment.sandbox, place);
    let counters = Arc::new(Counters::default());
    let ledger = Ledger::open(&*ledger).context("open the session's ledger")?;
    let memory =
        Arc::new(Memory::new(&ledger, assignment.slot, assignment.gpus.clone(), Arc::clone(&counters))?);
    end::watch(Arc::clone(&lane), term, Arc::clone(&control), Arc::clone(&counters), Arc::clone(&memory))?;
    control::report_regularly(Arc::clone(&control), Arc::clone(&counters), Arc::clone(&memory))?;
    tracing::info!(session = assignment.session_id, connection = assignment.connection_id, "serving");

    let outbox = Outbox::start(Arc::clone(&lane), Arc::clone(&counters), Arc::clone(&wake))
        .context("start the sender thread")?;
    let output = Arc::new(Output::capture().context("capture standard output")?);
    let worker = match Worker::open(
        driver,
        Arc::clone(&memory),
        Arc::clone(&counters),
        Arc::clone(&outbox),
        output,
        Arc::clone(&wake),
    ) {
        Ok(worker) => worker,
        Err(error) => return cannot_serve(&lane, error),
    };
    // Before the first byte of the client's is looked at.
    sandbox.close_calls();
    tracing::info!(layers = sandbox.layers().join(" "), "sandbox");
    let arrivals = Arc::new(Arrivals::new(Arc::clone(&wake), Arc::clone(&counters)));
    let lanes = Lanes::new(gate, Arc::clone(&lane), Arc::clone(&arrivals), Arc::clone(&outbox));
    let orphaned = {
        let (control, counters, memory) = (Arc::clone(&control), Arc::clone(&counters), Arc::clone(&memory));
        move || {
            // Nobody could end this worker with its session, and its GPU would be given to another.
            tracing::error!("there is no acceptor any more, and no other one came");
            end::leave(&control, &counters, &memory, 1)
        }
    };
    lanes.take_all(Arc::clone(&control), assignment.orphan_limit(), orphaned)?;
    let mut connection = Connection {
        lane,
        arrivals,
        worker,
        outbox,
        wake,
        order: RequestOrder::default(),
        parked: Parked::default(),
        body: Vec::new(),
        control: Arc::clone(&control),
        server_name: assignment.server_name,
        has_ended: false,
        sandbox,
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

/// Whether answers must leave before the next record is looked at, `waiting` bytes of which have gathered.
///
/// Errors: the client takes none.
fn must_send(waiting: usize) -> anyhow::Result<bool> {
    if waiting >= UNREAD_LIMIT {
        bail!(
            "the client does not take its answers: {waiting} bytes wait, expected less than {UNREAD_LIMIT}"
        );
    }
    Ok(waiting >= SEND_FROM)
}

/// Tells the client why there is no GPU for it.
fn cannot_serve(lane: &Lane, error: anyhow::Error) -> anyhow::Result<()> {
    let reason = format!("the GPU server cannot use its driver: {error:#}");
    let mut record = Vec::new();
    let refused = Refused { code: CUresult::SYSTEM_NOT_READY.0, reason };
    encode_record(&mut record, CallId::REFUSED, 0, 0, 0, |writer| refused.encode(writer));
    if let Err(lost) = lane.send_all(&[&record]) {
        tracing::debug!("the refusal did not reach the client: {lost}");
    }
    Err(error)
}

struct Connection {
    lane: Arc<Lane>,
    arrivals: Arc<Arrivals>,
    worker: Worker,
    outbox: Arc<Outbox>,
    wake: Arc<Wake>,
    order: RequestOrder,
    parked: Parked,
    body: Vec<u8>,
    control: Arc<Control>,
    server_name: String,
    /// The client has said goodbye.
    has_ended: bool,
    sandbox: Sandbox,
}

impl Connection {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut inbox = Inbox::new();
        loop {
            let started = Instant::now();
            while let Some((header, payload)) = inbox.next()? {
                if self.admit(&header, payload)? && must_send(self.outbox.waiting())? {
                    self.outbox.flush();
                }
                if self.has_ended {
                    return Ok(());
                }
            }
            let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Counters::add(&self.worker.counters.busy_nanoseconds, elapsed);
            self.worker.look_after_waits(PATIENCE);
            self.outbox.flush();
            self.wait_for_something()?;
            let count = match self.receive(&mut inbox) {
                Ok(Some(0)) => return Ok(()),
                Ok(Some(count)) => count,
                Ok(None) => continue,
                Err(error) if is_gone(&error) => {
                    tracing::info!("the client is gone: {error}");
                    return Ok(());
                }
                Err(error) => return Err(error).context("receive from the client"),
            };
            Counters::add(&self.worker.counters.bytes_received, count as u64);
        }
    }

    /// Receives what the client has sent. Before it sleeps it looks for a while, and after the waits of this worker. While
    /// records are parked it does not sleep: what had arrived may have been only words of the lane's, and then it answers
    /// `None`, so that the GPU is waited for, too.
    fn receive(&mut self, inbox: &mut Inbox) -> std::io::Result<Option<usize>> {
        let started = Instant::now();
        loop {
            if let Some(count) = inbox.receive(|room| self.lane.try_receive(room))? {
                return Ok(Some(count));
            }
            if !self.parked.is_empty() {
                return Ok(None);
            }
            if self.worker.waits.has_fresh() {
                self.worker.look_after_waits(PATIENCE);
                self.outbox.flush();
            } else if started.elapsed() >= PATIENCE {
                break;
            }
            // Others who could run must: looking is only cheap when nobody else wants the processor.
            std::thread::yield_now();
        }
        inbox.receive(|room| self.lane.receive(room)).map(Some)
    }

    /// Tries parked records again whenever the GPU has gone on; returns when there is something to receive.
    fn wait_for_something(&mut self) -> anyhow::Result<()> {
        while !self.parked.is_empty() {
            // In this order: what becomes possible after the trial wakes the poll.
            self.wake.want(true);
            self.wake.clear();
            self.try_parked()?;
            self.outbox.flush();
            if self.parked.is_empty() {
                break;
            }
            // This thread may sleep now, so others must wait. What is over already may be what a record waits for.
            if self.worker.look_after_waits(Duration::ZERO) {
                continue;
            }
            self.outbox.flush();
            if !self.parked.is_full() {
                let is_client = self.lane.wait_with(self.wake.as_fd());
                if is_client.context("wait for the client and the GPU")? {
                    break;
                }
                continue;
            }
            match poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the GPU"),
            }
        }
        self.wake.want(false);
        Ok(())
    }

    /// Takes a record that has arrived: executes it, or parks it behind what must come first. Answers whether there
    /// may be more for the client.
    fn admit(&mut self, header: &Header, payload: &[u8]) -> Result<bool, WireError> {
        self.order.admit(header)?;
        if is_launch(header.call)
            && self.parked.is_empty()
            && launch_again(&mut self.worker, header, payload)?
        {
            Counters::add(&self.worker.counters.calls, 1);
            return Ok(false);
        }
        match header.call {
            CallId::HELLO => {
                let result = self.hello(Reader::new(payload))?;
                self.outbox.reply(reply_to(header), result.0, &self.body);
                return Ok(true);
            }
            CallId::GOODBYE => {
                self.goodbye(Reader::new(payload))?;
                self.has_ended = true;
                return Ok(false);
            }
            _ => {}
        }
        Counters::add(&self.worker.counters.calls, 1);
        if header.flags & flags::WANTS_REPLY != 0 {
            Counters::add(&self.worker.counters.round_trips, 1);
        }
        let is_bulk = header.flags & flags::BULK != 0;
        if !self.parked.is_empty() {
            let touches = Touches::of(header.call, header.context, payload);
            let non_blocking = self.worker.streams.non_blocking_handles();
            if self.parked.held().holds_back(&touches, non_blocking) {
                if is_bulk {
                    // Its stream stands still: pinned memory is for those that go on.
                    data_length(header, payload)?;
                    self.arrivals.expect_plain(header.sequence);
                }
                if is_query(header.call) {
                    // What is parked is not finished, and a program that asks must not wait for it.
                    self.outbox.reply(reply_to(header), CUresult::NOT_READY.0, &[]);
                    return Ok(true);
                }
                let record = ParkedRecord { header: *header, payload: payload.to_vec(), touches };
                self.parked.push(record, non_blocking);
                return Ok(false);
            }
        }
        if is_bulk {
            self.expect_data(header, payload)?;
        }
        if !self.execute(header, payload)? {
            let touches = Touches::of(header.call, header.context, payload);
            let record = ParkedRecord { header: *header, payload: payload.to_vec(), touches };
            self.parked.push(record, self.worker.streams.non_blocking_handles());
        }
        Ok(true)
    }

    fn try_parked(&mut self) -> Result<(), WireError> {
        for record in self.parked.take() {
            let non_blocking = self.worker.streams.non_blocking_handles();
            let wait = self.parked.held().holds_back(&record.touches, non_blocking);
            if wait || !self.execute(&record.header, &record.payload)? {
                self.parked.push(record, self.worker.streams.non_blocking_handles());
            }
        }
        Ok(())
    }

    /// Notes that a record's data come on the bulk lane, and gives them memory from which the GPU can copy.
    fn expect_data(&mut self, header: &Header, front: &[u8]) -> Result<(), WireError> {
        let length = data_length(header, front)?;
        if self.arrivals.has_begun(header.sequence) {
            return Ok(());
        }
        let mut buffer = None;
        if let Some(stream) = stream_of_copy(header.call, front) {
            self.worker.in_context(header.call, header.context, |worker| {
                if let Ok(stream) = stream_of(worker, header.call, stream) {
                    buffer = worker.buffer(crate::bulk::ROOM + length, stream).ok().flatten();
                }
                Ok(CUresult::SUCCESS)
            })?;
        }
        match buffer {
            Some(buffer) => self.arrivals.expect(header.sequence, buffer, length, &self.worker.staging),
            None => self.arrivals.expect_plain(header.sequence),
        }
        Ok(())
    }

    /// Executes a record; `false` when it must be tried again later and nothing has happened.
    fn execute(&mut self, header: &Header, payload: &[u8]) -> Result<bool, WireError> {
        if header.flags & flags::BULK == 0 {
            return self.execute_whole(header, payload);
        }
        let Some(mut data) = self.arrivals.take(header.sequence) else { return Ok(false) };
        if data.length() != data_length(header, payload)? {
            return Err(WireError::Malformed { call: header.call });
        }
        let is_pinned = matches!(data, Data::Pinned(..));
        let Some(whole) = data.payload(payload) else {
            return Err(WireError::Malformed { call: header.call });
        };
        self.worker.pinned = is_pinned.then(|| {
            let range = whole.as_ptr_range();
            range.start.addr()..range.end.addr()
        });
        let executed = self.execute_whole(header, whole);
        self.worker.pinned = None;
        let reader = self.worker.pinned_reader.take();
        if !executed? {
            self.arrivals.put_back(header.sequence, data);
            return Ok(false);
        }
        match (data, reader) {
            // What is wrong with it, the copy itself has answered.
            (Data::Pinned(buffer, _), Some(stream)) => drop(self.worker.keep_until_read(buffer, stream)),
            (Data::Pinned(buffer, _), None) => self.worker.staging.give(buffer),
            (Data::Plain(bytes, _), _) => self.arrivals.recycle(bytes),
        }
        Ok(true)
    }

    /// Executes a record whose payload is all there.
    fn execute_whole(&mut self, header: &Header, payload: &[u8]) -> Result<bool, WireError> {
        let call = header.call;
        let wants_reply = header.flags & flags::WANTS_REPLY != 0;
        self.body.clear();
        let worker = &mut self.worker;
        worker.later = Later::No;
        worker.reply_to = wants_reply.then(|| reply_to(header));
        worker.number = header.sequence;
        waiting::forget_stream(worker, call, payload);
        let body = &mut self.body;
        let result = worker.in_context(call, header.context, |worker| {
            let mut reader = Reader::new(payload);
            match waiting::wait(worker, call, &reader) {
                Some(answer) => answer,
                None => dispatch::dispatch(worker, call, &mut reader, &mut Writer::new(body)),
            }
        })?;
        match worker.later {
            Later::TryAgain => return Ok(false),
            Later::Answered => return Ok(true),
            Later::No => {}
        }
        if !is_launch(call) {
            waiting::note_stream_calls(worker, call, payload);
            waiting::note_events(worker, call, payload);
        }
        if wants_reply {
            worker.waits.send_finished_downloads();
            self.outbox.reply(reply_to(header), result.0, &self.body);
        } else if result != CUresult::SUCCESS {
            self.outbox.failed(call, header.context, result.0);
        }
        Ok(true)
    }

    fn hello(&mut self, mut reader: Reader<'_>) -> Result<CUresult, WireError> {
        let hello = Hello::decode(&mut reader);
        reader.finish(CallId::HELLO)?;
        self.control.started(hello.pid, &hello.program, self.sandbox.layers());
        match snapshot::take(&self.worker, &self.server_name, hello.window) {
            Ok(welcome) => {
                welcome.encode(&mut Writer::new(&mut self.body));
                Ok(CUresult::SUCCESS)
            }
            Err(code) => Ok(code),
        }
    }

    fn goodbye(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        let goodbye = Goodbye::decode(&mut reader);
        reader.finish(CallId::GOODBYE)?;
        Counters::add(&self.worker.counters.local_calls, goodbye.local_calls);
        Ok(())
    }
}

/// Bytes of the data that a record names and the bulk lane brings.
fn data_length(header: &Header, front: &[u8]) -> Result<usize, WireError> {
    if !wire::bulk::takes_lane(header.call) {
        return Err(WireError::Unexpected { call: header.call, reason: "only copies take the bulk lane" });
    }
    let malformed = WireError::Malformed { call: header.call };
    let length = front.last_chunk::<8>().copied().map(u64::from_le_bytes).ok_or_else(|| malformed.clone())?;
    usize::try_from(length).ok().filter(|length| *length <= MAX_PAYLOAD as usize).ok_or(malformed)
}

/// The stream of a copy whose data come on the bulk lane; 0 is the legacy one.
fn stream_of_copy(call: CallId, front: &[u8]) -> Option<Stream> {
    if is_on_legacy_stream(call) {
        return Some(Stream::default());
    }
    touched(call, front).0.first().copied()
}

fn reply_to(header: &Header) -> ReplyTo {
    let is_detached = header.flags & flags::DETACHED != 0;
    ReplyTo { call: header.call, sequence: header.sequence, context: header.context, is_detached }
}

/// Whether an error of receiving means that the client's process or machine is gone.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::ConnectionAborted)
}

/// Calls that ask whether something is finished.
fn is_query(call: CallId) -> bool {
    [wire::cuda::CuStreamQuery::CALL, wire::cuda::CuEventQuery::CALL].contains(&call)
}

/// Launches note their stream themselves, being by far the most frequent records.
fn is_launch(call: CallId) -> bool {
    call == <wire::cuda::CuLaunchKernel<'_>>::CALL
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found on the way: answers were kept without bounds for a client that asks and asks and never reads.
    #[test]
    fn a_client_that_never_hears_its_answers_is_given_up() {
        assert!(matches!(must_send(SEND_FROM - 1), Ok(false)));
        assert!(matches!(must_send(UNREAD_LIMIT - 1), Ok(true)));
        assert!(must_send(UNREAD_LIMIT).is_err());
    }
}
