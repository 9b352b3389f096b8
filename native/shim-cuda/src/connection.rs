//! The connection of this process to its worker.
//!
//! Sending: records are encoded into one buffer under a lock. A call that waits sends the buffer itself; a
//! call that does not wait leaves it to the writer thread, which sends whatever has gathered (idle: at once;
//! busy: the next send carries all). At most one thread sends at a time (`sending`), so records keep
//! their order. Receiving: of the threads that wait for a reply one reads the socket for all of them.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use session::{Completion, DeferredError, PendingCalls, ReplyHead, Requests};
use transport::Socket;
use wire::cuda::{CuLaunchKernel, FarpoolFence};
use wire::handle::Stream;
use wire::notice::{self, Callback, Finished};
use wire::record::{HEADER_BYTES, flags};
use wire::{CallId, Header, Request, WireError, Writer};

use crate::progress::{Progress, Timelines};

/// Bytes that may wait for the sender before a caller is held back.
const OUTGOING_LIMIT: usize = 4 << 20;

/// Payloads from here on are sent from the caller's memory instead of being copied into the buffer.
const DIRECT_FROM: usize = 64 << 10;

/// Bytes asked from the socket at once when no payload is known to be larger.
const RECEIVE_BYTES: usize = 64 << 10;

/// How long a waiting thread looks for its answer before it sleeps: about what waking it costs.
const PATIENCE: Duration = Duration::from_micros(50);

/// How often the service thread looks after copies under way that nobody waits for.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// How long it waits for something to arrive while such a copy is under way.
const ARRIVAL: Duration = Duration::from_millis(20);

/// Looks without a copy under way after which it sleeps until it is woken: programs that copy in a loop need not wake it
/// for each copy.
const IDLE_LOOKS: u32 = 20;

thread_local! {
    /// Number of the last record that this thread has sent.
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Number of the last record that this thread has sent.
pub fn last_number() -> u64 {
    LAST_NUMBER.get()
}

/// How long an exiting process waits for its last records to leave.
const LAST_SEND: Duration = Duration::from_secs(1);

/// Why there is no connection any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Loss {
    /// The worker or the server closed, or the network failed.
    #[error("the connection to the GPU server was lost ({0})")]
    Io(String),
    /// The server says nothing while it is expected to greet.
    #[error("the GPU server does not answer")]
    Silent,
    /// The other end sent what it must not.
    #[error("the GPU server sent a record that cannot be right ({0})")]
    Wire(WireError),
    /// The acceptor or the worker refused the connection.
    #[error("{reason}")]
    Refused {
        /// `CUresult` for the caller.
        code: i32,
        /// The sentence for the user.
        reason: String,
    },
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Loss::Silent,
            _ => Loss::Io(error.to_string()),
        }
    }
}

impl From<WireError> for Loss {
    fn from(error: WireError) -> Self {
        Loss::Wire(error)
    }
}

/// Caller memory that receives the data of a reply: rows of `length` bytes, `pitch` bytes apart.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    pointer: *mut u8,
    length: usize,
    rows: usize,
    pitch: usize,
}

// SAFETY: the thread that waits for the reply owns the memory and stays in `Connection::wait` until the
// reply is complete or the connection is lost; whichever thread reads the socket writes it meanwhile.
unsafe impl Send for Destination {}

impl Destination {
    /// Memory of `length` bytes at `pointer`.
    ///
    /// # Safety
    /// The memory must be writable, and used by nobody else, until the call that it is given to returns.
    pub unsafe fn new(pointer: *mut u8, length: usize) -> Self {
        Self { pointer, length, rows: 1, pitch: length }
    }

    /// `rows` rows of `length` bytes, each `pitch` bytes behind the one before; the first at `pointer`.
    ///
    /// # Safety
    /// As for [`Destination::new`], for every row.
    pub unsafe fn with_rows(pointer: *mut u8, length: usize, rows: usize, pitch: usize) -> Self {
        Self { pointer, length, rows, pitch }
    }

    /// Where its last row ends, counted from its first byte.
    fn extent(&self) -> usize {
        self.rows.saturating_sub(1) * self.pitch + self.length
    }
}

/// A reply: its head, and its payload after the head (empty where it went to a [`Destination`]).
#[derive(Debug)]
pub struct ReplyRecord {
    /// Result and deferred error.
    pub head: ReplyHead,
    /// The rest of the payload.
    pub body: Vec<u8>,
}

/// Counts that `farpool run` shows at the end and that tests compare.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls for which a thread waited for the worker.
    pub round_trips: AtomicU64,
    /// The same by call.
    pub waits: Mutex<BTreeMap<CallId, u64>>,
}

/// The connection; see the module's text.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    outgoing: Mutex<Outgoing>,
    writer_wakes: Condvar,
    sender_done: Condvar,
    incoming: Mutex<Incoming>,
    reply_arrived: Condvar,
    service_wakes: Condvar,
    stream: Mutex<ReceiveBuffer>,
    lost: OnceLock<Loss>,
    /// How far the streams have got.
    pub timelines: Timelines,
    /// Errors of replies that nobody waited for.
    pub detached: Detached,
    /// What was counted so far.
    pub counters: Counters,
    /// The last fence that the worker has told to be reached.
    reached_fence: AtomicU64,
}

#[derive(Debug, Default)]
struct Outgoing {
    requests: Requests,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    sending: bool,
    writer_parked: bool,
    /// Nothing was sent since a call that waited.
    is_calm: bool,
}

#[derive(Debug, Default)]
struct Incoming {
    pending: PendingCalls<Destination, ReplyRecord>,
    reading: bool,
    /// Memory of the program that copies under way will write, by the number of their record.
    downloads: HashMap<u64, std::ops::Range<usize>>,
    /// What streams are waiting for this process to do, in order of arrival.
    callbacks: VecDeque<Callback>,
    /// Callbacks that were asked for and are not done.
    outstanding: HashSet<u64>,
    /// The service thread sleeps until it is woken.
    service_sleeps: bool,
}

/// A record from the worker.
enum Arrived {
    Reply(u64, ReplyRecord),
    Callback(Callback),
    Output(Vec<u8>),
    Fence(u64),
    Finished(Finished),
}

/// Received bytes that nobody has looked at yet.
#[derive(Debug)]
struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic is caught at the `extern "C"` boundary; the state behind these locks is valid between any two
    // statements, so a poisoned lock is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Takes over a socket whose preface was sent, and starts the writer thread.
    pub fn start(socket: Socket) -> io::Result<Arc<Connection>> {
        let connection = Arc::new(Connection {
            socket,
            outgoing: Mutex::default(),
            writer_wakes: Condvar::new(),
            sender_done: Condvar::new(),
            incoming: Mutex::default(),
            reply_arrived: Condvar::new(),
            service_wakes: Condvar::new(),
            stream: Mutex::new(ReceiveBuffer { bytes: vec![0; RECEIVE_BYTES], start: 0, end: 0 }),
            lost: OnceLock::new(),
            timelines: Timelines::default(),
            detached: Detached::default(),
            counters: Counters::default(),
            reached_fence: AtomicU64::new(0),
        });
        let writer = Arc::clone(&connection);
        crate::thread::spawn("farpool-writer", move || writer.write_forever())?;
        Ok(connection)
    }

    /// The server has answered: from now on it may take as long as its GPUs do.
    pub fn greeted(&self) {
        self.socket.limit_receiving(None);
    }

    /// Sends a request that nobody waits for.
    pub fn post<'a, R: Request<'a>>(&self, request: &R, context: u32) -> Result<(), Loss> {
        let mut outgoing = self.outgoing_with_room()?;
        let number =
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, false, context));
        self.posted(request.stream(), context, number);
        self.let_leave(outgoing)
    }

    /// Sends a launch, whose payload `body` writes, on a stream whose work is `progress`.
    pub fn post_launch(
        &self,
        context: u32,
        progress: &Progress,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Loss> {
        let mut outgoing = self.outgoing_with_room()?;
        let number = outgoing.with_buffer(|requests, buffer| {
            requests.encode_with(
                buffer,
                <CuLaunchKernel<'_> as Request<'_>>::CALL,
                false,
                context,
                |writer| {
                    writer.with_buffer(body);
                },
            )
        });
        progress.put(number);
        self.let_leave(outgoing)
    }

    /// Number of the last record that this process has sent.
    pub fn last_sent(&self) -> u64 {
        lock(&self.outgoing).requests.last()
    }

    /// Notes what record `number` has put on a stream, before the record can leave.
    fn posted(&self, stream: Option<Stream>, context: u32, number: u64) {
        if let Some(stream) = stream {
            self.timelines.put(context, stream, number);
        }
        LAST_NUMBER.set(number);
    }

    /// Sends a request made of `head` and `data`, which nobody waits for. When this returns, `data` may be
    /// reused: it was copied or sent.
    pub fn post_with_data(
        &self,
        call: CallId,
        place: (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: &[u8],
    ) -> Result<(), Loss> {
        self.send_with_data(call, place, head, data, false).map(drop)
    }

    /// Like [`Connection::post_with_data`], but waits for the reply.
    pub fn call_with_data(
        &self,
        call: CallId,
        place: (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: &[u8],
    ) -> Result<ReplyRecord, Loss> {
        self.count_wait(call);
        let sequence = self.send_with_data(call, place, head, data, true)?;
        self.wait(sequence)
    }

    fn send_with_data(
        &self,
        call: CallId,
        (context, stream): (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: &[u8],
        wants_reply: bool,
    ) -> Result<u64, Loss> {
        let expect = |sequence| {
            if wants_reply {
                lock(&self.incoming).pending.expect(sequence, call, None);
            }
            sequence
        };
        let mut outgoing = self.outgoing_with_room()?;
        if data.len() < DIRECT_FROM {
            let sequence = expect(outgoing.with_buffer(|requests, buffer| {
                requests.encode_with(buffer, call, wants_reply, context, |writer| {
                    head(writer);
                    writer.put_bytes(data);
                })
            }));
            self.posted(stream, context, sequence);
            self.let_leave(outgoing)?;
            return Ok(sequence);
        }
        while outgoing.sending {
            outgoing = wait(&self.sender_done, outgoing);
            self.check()?;
        }
        outgoing.sending = true;
        let mut front = Vec::new();
        head(&mut Writer::new(&mut front));
        Writer::new(&mut front).put_u64(data.len() as u64);
        let length = u32::try_from(front.len() + data.len()).unwrap_or(u32::MAX);
        let sequence = expect(outgoing.with_buffer(|requests, buffer| {
            requests.encode_header(buffer, call, wants_reply, context, length)
        }));
        let mut batch = outgoing.take_batch();
        self.posted(stream, context, sequence);
        drop(outgoing);
        let sent = self.socket.send_all(&[&batch, &front, data]);
        batch.clear();
        self.end_of_sending(batch, sent)?;
        Ok(sequence)
    }

    /// Sends a request and waits for its reply. Data of the reply goes to `destination` if there is one.
    pub fn call<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Option<Destination>,
    ) -> Result<ReplyRecord, Loss> {
        self.count_wait(R::CALL);
        let sequence = self.send_call(request, context, destination)?;
        self.wait(sequence)
    }

    /// Counts a call for which a thread waits.
    pub fn count_wait(&self, call: CallId) {
        self.counters.round_trips.fetch_add(1, Ordering::Relaxed);
        *lock(&self.counters.waits).entry(call).or_default() += 1;
    }

    /// Sends a request whose reply is fetched by [`Connection::wait`]. Every sequence number must be waited for.
    pub fn send_call<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Option<Destination>,
    ) -> Result<u64, Loss> {
        let mut outgoing = self.outgoing_with_room()?;
        let sequence =
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, true, context));
        lock(&self.incoming).pending.expect(sequence, R::CALL, destination);
        self.posted(request.stream(), context, sequence);
        outgoing.is_calm = true;
        if outgoing.sending {
            return Ok(sequence);
        }
        outgoing.sending = true;
        let mut batch = outgoing.take_batch();
        drop(outgoing);
        let sent = self.socket.send_all(&[&batch]);
        batch.clear();
        self.end_of_sending(batch, sent)?;
        Ok(sequence)
    }

    /// Waits for the reply to `sequence`.
    pub fn wait(&self, sequence: u64) -> Result<ReplyRecord, Loss> {
        let mut incoming = lock(&self.incoming);
        loop {
            if let Completion::Ready(reply) = incoming.pending.take(sequence) {
                return Ok(reply);
            }
            if let Err(loss) = self.check() {
                // While another thread reads, it may be writing to this call's destination.
                if incoming.reading {
                    incoming = wait(&self.reply_arrived, incoming);
                    continue;
                }
                incoming.pending.forget(sequence);
                return Err(loss);
            }
            if incoming.reading {
                incoming = wait(&self.reply_arrived, incoming);
                continue;
            }
            incoming.reading = true;
            drop(incoming);
            incoming = self.read_for_all();
        }
    }

    /// Reads one record and hands it to whom it concerns. The caller has set `reading`.
    fn read_for_all(&self) -> MutexGuard<'_, Incoming> {
        let read = self.read_record();
        if let Err(loss) = &read {
            self.lose(loss.clone());
        }
        if let Ok(Arrived::Output(text)) = &read {
            // Before anybody learns of a completion behind it.
            crate::output::print(text);
        }
        let mut incoming = lock(&self.incoming);
        self.stop_reading(&mut incoming);
        match read {
            Ok(Arrived::Reply(number, reply)) => {
                incoming.downloads.remove(&number);
                if let Some(detached) = incoming.pending.complete(number, reply) {
                    self.detached.note(detached.head);
                }
            }
            Ok(Arrived::Callback(callback)) => {
                incoming.callbacks.push_back(callback);
                self.service_wakes.notify_one();
            }
            Ok(Arrived::Fence(number)) => {
                self.reached_fence.fetch_max(number, Ordering::Release);
            }
            Ok(Arrived::Finished(finished)) => self.finished(&finished),
            Ok(Arrived::Output(_)) | Err(_) => {}
        }
        self.reply_arrived.notify_all();
        incoming
    }

    /// Another thread may read from now on; while callbacks are awaited the service thread does.
    fn stop_reading(&self, incoming: &mut Incoming) {
        incoming.reading = false;
        if !incoming.outstanding.is_empty() {
            self.service_wakes.notify_one();
        }
    }

    fn finished(&self, finished: &Finished) {
        self.timelines.note(finished);
        let (call, code) = finished.failed;
        if code != 0 {
            let deferred = Some(DeferredError { call: CallId(call), code });
            self.detached.note(ReplyHead { result: 0, deferred });
        }
    }

    /// Sends a request whose reply's data lands in `destination`, some time before anything tells this process that
    /// the copy is complete. Nobody waits for it.
    ///
    /// # Safety
    /// The memory must stay writable until [`Connection::has_downloads`] denies it.
    pub unsafe fn send_download<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Destination,
    ) -> Result<(), Loss> {
        let mut outgoing = self.outgoing_with_room()?;
        let sequence =
            outgoing.with_buffer(|requests, buffer| requests.encode_detached(buffer, request, context));
        let start = destination.pointer.addr();
        {
            let mut incoming = lock(&self.incoming);
            incoming.pending.expect_detached(sequence, R::CALL, destination);
            incoming.downloads.insert(sequence, start..start + destination.extent());
            if incoming.service_sleeps {
                self.service_wakes.notify_one();
            }
        }
        self.posted(request.stream(), context, sequence);
        self.let_leave(outgoing)?;
        Ok(())
    }

    /// The last fence that the worker has told to be reached: everything before it is done.
    pub fn reached_fence(&self) -> u64 {
        self.reached_fence.load(Ordering::Acquire)
    }

    /// Waits until fence `number`, which was sent, is reached.
    pub fn wait_for_fence(&self, number: u64) -> Result<(), Loss> {
        if self.reached_fence() >= number {
            return Ok(());
        }
        self.count_wait(FarpoolFence::CALL);
        let mut incoming = lock(&self.incoming);
        while self.reached_fence() < number {
            self.check()?;
            if incoming.reading {
                incoming = wait(&self.reply_arrived, incoming);
                continue;
            }
            incoming.reading = true;
            drop(incoming);
            incoming = self.read_for_all();
        }
        Ok(())
    }

    /// Takes what has arrived, without waiting: for those who ask what they may not wait for. What another thread
    /// reads at the moment, that thread takes.
    pub fn look(&self) {
        loop {
            let mut incoming = lock(&self.incoming);
            if incoming.reading || self.lost.get().is_some() {
                return;
            }
            incoming.reading = true;
            drop(incoming);
            if !matches!(lock(&self.stream).has_arrived(&self.socket), Ok(true)) {
                self.stop_reading(&mut lock(&self.incoming));
                self.reply_arrived.notify_all();
                return;
            }
            drop(self.read_for_all());
        }
    }

    /// Whether copies under way will write into the `length` bytes at `start`.
    pub fn has_downloads(&self, start: usize, length: usize) -> bool {
        let incoming = lock(&self.incoming);
        let end = start.saturating_add(length);
        incoming.downloads.values().any(|range| range.start < end && start < range.end)
    }

    /// Whether any copies under way will write memory of this process.
    pub fn has_any_downloads(&self) -> bool {
        !lock(&self.incoming).downloads.is_empty()
    }

    /// Notes that a callback was asked for; the service thread looks out for it from now on.
    pub fn expect_callback(&self, token: u64) {
        lock(&self.incoming).outstanding.insert(token);
        self.service_wakes.notify_one();
    }

    /// Whether callbacks were asked for that are not done.
    pub fn has_callbacks(&self) -> bool {
        !lock(&self.incoming).outstanding.is_empty()
    }

    /// Notes that a callback was done, or will never come.
    pub fn callback_done(&self, token: u64) {
        lock(&self.incoming).outstanding.remove(&token);
        self.reply_arrived.notify_all();
    }

    /// Those of `tokens` whose streams have not got there: the service thread has not been told of them.
    pub fn not_reached(&self, tokens: &[u64]) -> Vec<u64> {
        let incoming = lock(&self.incoming);
        let has_arrived = |token: u64| incoming.callbacks.iter().any(|callback| callback.token == token);
        tokens.iter().copied().filter(|token| !has_arrived(*token)).collect()
    }

    /// Hands a callback to the service thread whose stream ended with `code` before it got there.
    pub fn call_back(&self, token: u64, code: i32) {
        lock(&self.incoming).callbacks.push_back(Callback { token, code });
        self.service_wakes.notify_one();
    }

    /// Waits until none of `tokens` is under way.
    pub fn wait_for_callbacks(&self, tokens: &[u64]) {
        let mut incoming = lock(&self.incoming);
        while self.lost.get().is_none() && tokens.iter().any(|token| incoming.outstanding.contains(token)) {
            incoming = wait(&self.reply_arrived, incoming);
        }
    }

    /// The next thing that a stream waits for; `None` once the connection is lost. Called by the service thread
    /// alone, which reads the socket itself when nobody else does: at once while callbacks are awaited, else where a copy
    /// is under way for a while, as a program may look at its memory instead of asking CUDA.
    pub fn next_callback(&self) -> Option<Callback> {
        let mut incoming = lock(&self.incoming);
        let mut idle_looks = IDLE_LOOKS;
        let mut seen = None;
        loop {
            if let Some(callback) = incoming.callbacks.pop_front() {
                return Some(callback);
            }
            if self.lost.get().is_some() {
                return None;
            }
            if !incoming.reading && !incoming.outstanding.is_empty() {
                incoming.reading = true;
                drop(incoming);
                incoming = self.read_for_all();
                continue;
            }
            if incoming.downloads.is_empty() {
                idle_looks += 1;
            } else {
                idle_looks = 0;
            }
            if idle_looks > IDLE_LOOKS {
                incoming.service_sleeps = true;
                incoming = wait(&self.service_wakes, incoming);
                incoming.service_sleeps = false;
                idle_looks = IDLE_LOOKS;
                continue;
            }
            let is_old = seen.is_some_and(|number| incoming.downloads.contains_key(&number));
            if is_old && !incoming.reading {
                drop(incoming);
                self.look();
                if self.has_any_downloads() && !lock(&self.incoming).reading {
                    self.socket.wait_for_arrival(ARRIVAL);
                    self.look();
                }
                incoming = lock(&self.incoming);
            }
            seen = incoming.downloads.keys().next().copied();
            incoming = self
                .service_wakes
                .wait_timeout(incoming, LOOK_AFTER)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Sends a last request, unless another thread is in the middle of something or too much is waiting: an exiting
    /// process waits for nobody.
    pub fn post_last<'a, R: Request<'a>>(&self, request: &R) {
        if let Ok(mut outgoing) = self.outgoing.try_lock()
            && self.lost.get().is_none()
            && outgoing.buffer.len() < OUTGOING_LIMIT
        {
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, false, 0));
            drop(outgoing);
            self.drain();
        }
    }

    /// Waits until everything posted so far has left, but not for a worker that does not read: used at the end of
    /// the process.
    fn drain(&self) {
        self.socket.limit_sending(LAST_SEND);
        let mut outgoing = lock(&self.outgoing);
        while (outgoing.sending || !outgoing.buffer.is_empty()) && self.lost.get().is_none() {
            if !outgoing.sending {
                outgoing.sending = true;
                let mut batch = outgoing.take_batch();
                drop(outgoing);
                let sent = self.socket.send_all(&[&batch]);
                batch.clear();
                if self.end_of_sending(batch, sent).is_err() {
                    return;
                }
                outgoing = lock(&self.outgoing);
                continue;
            }
            let (guard, timeout) =
                self.sender_done.wait_timeout(outgoing, LAST_SEND).unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return;
            }
            outgoing = guard;
        }
    }

    /// Ends the connection; every later call fails with `loss`. No lock may be held: a waiter checks for the loss
    /// under its lock before it sleeps, and taking both locks here closes the gap between check and sleep.
    pub fn lose(&self, loss: Loss) {
        if self.lost.set(loss).is_ok() {
            self.socket.shutdown();
        }
        drop(lock(&self.outgoing));
        drop(lock(&self.incoming));
        self.writer_wakes.notify_all();
        self.sender_done.notify_all();
        self.reply_arrived.notify_all();
        self.service_wakes.notify_all();
    }

    fn check(&self) -> Result<(), Loss> {
        match self.lost.get() {
            Some(loss) => Err(loss.clone()),
            None => Ok(()),
        }
    }

    fn outgoing_with_room(&self) -> Result<MutexGuard<'_, Outgoing>, Loss> {
        let mut outgoing = lock(&self.outgoing);
        loop {
            self.check()?;
            if outgoing.buffer.len() < OUTGOING_LIMIT {
                return Ok(outgoing);
            }
            outgoing = wait(&self.sender_done, outgoing);
        }
    }

    /// Sees to it that a record leaves that nobody waits for. The first one after a call that waited is sent right
    /// here: nothing else is under way, and the writer would have to wake first. Those behind it are the writer's.
    fn let_leave(&self, mut outgoing: MutexGuard<'_, Outgoing>) -> Result<(), Loss> {
        if !outgoing.is_calm || outgoing.sending {
            self.hand_to_writer(&outgoing);
            return Ok(());
        }
        outgoing.is_calm = false;
        outgoing.sending = true;
        let mut batch = outgoing.take_batch();
        drop(outgoing);
        let sent = self.socket.send_all(&[&batch]);
        batch.clear();
        self.end_of_sending(batch, sent)
    }

    fn hand_to_writer(&self, outgoing: &Outgoing) {
        if outgoing.writer_parked && !outgoing.sending {
            self.writer_wakes.notify_one();
        }
    }

    fn end_of_sending(&self, batch: Vec<u8>, sent: io::Result<()>) -> Result<(), Loss> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.sending = false;
        outgoing.spare = batch;
        let more = !outgoing.buffer.is_empty();
        drop(outgoing);
        self.sender_done.notify_all();
        if let Err(error) = sent {
            let is_gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
            // A refusal may be waiting to be read; it says more than "broken pipe".
            let refusal = if is_gone { self.refusal() } else { None };
            let loss = refusal.unwrap_or_else(|| error.into());
            self.lose(loss.clone());
            return Err(loss);
        }
        if more {
            self.writer_wakes.notify_one();
        }
        Ok(())
    }

    fn refusal(&self) -> Option<Loss> {
        {
            let mut incoming = lock(&self.incoming);
            if incoming.reading {
                return None;
            }
            incoming.reading = true;
        }
        let read = self.read_record();
        self.stop_reading(&mut lock(&self.incoming));
        self.reply_arrived.notify_all();
        match read {
            Err(refused @ Loss::Refused { .. }) => Some(refused),
            _ => None,
        }
    }

    fn write_forever(&self) {
        let mut outgoing = lock(&self.outgoing);
        loop {
            if self.lost.get().is_some() {
                return;
            }
            if outgoing.sending || outgoing.buffer.is_empty() {
                outgoing.writer_parked = true;
                outgoing = wait(&self.writer_wakes, outgoing);
                outgoing.writer_parked = false;
                continue;
            }
            outgoing.sending = true;
            let mut batch = outgoing.take_batch();
            drop(outgoing);
            let sent = self.socket.send_all(&[&batch]);
            batch.clear();
            if self.end_of_sending(batch, sent).is_err() {
                return;
            }
            outgoing = lock(&self.outgoing);
        }
    }

    fn read_record(&self) -> Result<Arrived, Loss> {
        let mut stream = lock(&self.stream);
        let mut header = [0; HEADER_BYTES];
        stream.read(&self.socket, &mut header)?;
        let header = Header::decode(&header)?;
        let length = header.length as usize;
        if header.call == CallId::REFUSED {
            let mut payload = vec![0; length];
            stream.read(&self.socket, &mut payload)?;
            let mut reader = wire::Reader::new(&payload);
            let refused = wire::handshake::Refused::decode(&mut reader);
            reader.finish(header.call)?;
            return Err(Loss::Refused { code: refused.code, reason: refused.reason });
        }
        if header.flags & flags::NOTICE != 0 {
            let mut payload = vec![0; length];
            stream.read(&self.socket, &mut payload)?;
            return notice(&header, &payload);
        }
        let destination = lock(&self.incoming).pending.accept(&header)?;
        let mut head_bytes = [0; 10];
        let head_bytes = &mut head_bytes[..ReplyHead::encoded_bytes(header.flags)];
        let Some(rest) = length.checked_sub(head_bytes.len()) else {
            return Err(WireError::Malformed { call: header.call }.into());
        };
        stream.read(&self.socket, head_bytes)?;
        let head = ReplyHead::decode(header.flags, &mut wire::Reader::new(head_bytes));
        let mut body = Vec::new();
        match destination {
            Some(destination) if head.result == 0 => {
                if rest != destination.length * destination.rows {
                    return Err(WireError::Malformed { call: header.call }.into());
                }
                for row in 0..destination.rows {
                    // SAFETY: whoever made the destination promised writable memory that is not used until its call
                    // returns, and it returns only after this record was read or the reading failed.
                    let memory = unsafe {
                        let start = destination.pointer.add(row * destination.pitch);
                        std::slice::from_raw_parts_mut(start, destination.length)
                    };
                    stream.read(&self.socket, memory)?;
                }
            }
            _ => {
                body.resize(rest, 0);
                stream.read(&self.socket, &mut body)?;
            }
        }
        Ok(Arrived::Reply(header.sequence, ReplyRecord { head, body }))
    }
}

fn notice(header: &Header, payload: &[u8]) -> Result<Arrived, Loss> {
    let mut reader = wire::Reader::new(payload);
    let arrived = match header.call {
        CallId::CALLBACK => Arrived::Callback(Callback::decode(&mut reader)),
        CallId::FENCE => Arrived::Fence(notice::Fence::decode(&mut reader).number),
        CallId::FINISHED => Arrived::Finished(Finished::decode(&mut reader)),
        CallId::OUTPUT => Arrived::Output(notice::Output::decode(&mut reader).text),
        call => return Err(WireError::UnknownCall { call }.into()),
    };
    reader.finish(header.call)?;
    Ok(arrived)
}

/// The first error of a reply that nobody waited for.
#[derive(Debug, Default)]
pub struct Detached {
    any: AtomicBool,
    first: Mutex<Option<ReplyHead>>,
}

impl Detached {
    fn note(&self, head: ReplyHead) {
        if head.result != 0 || head.deferred.is_some() {
            lock(&self.first).get_or_insert(head);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Takes the error, if there is one.
    pub fn take(&self) -> Option<ReplyHead> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return None;
        }
        lock(&self.first).take()
    }
}

impl Outgoing {
    fn with_buffer<T>(&mut self, body: impl FnOnce(&mut Requests, &mut Vec<u8>) -> T) -> T {
        body(&mut self.requests, &mut self.buffer)
    }

    fn take_batch(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare))
    }
}

impl ReceiveBuffer {
    /// Fills `target` from what was received before, then from the socket.
    fn read(&mut self, socket: &Socket, mut target: &mut [u8]) -> io::Result<()> {
        loop {
            let ready = (self.end - self.start).min(target.len());
            let (now, later) = target.split_at_mut(ready);
            now.copy_from_slice(&self.bytes[self.start..self.start + ready]);
            self.start += ready;
            target = later;
            if target.is_empty() {
                return Ok(());
            }
            if target.len() >= self.bytes.len() {
                return socket.receive_exact(target);
            }
            (self.start, self.end) = (0, 0);
            self.end = receive(socket, &mut self.bytes)?;
            if self.end == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether there is anything to read, without waiting for it.
    fn has_arrived(&mut self, socket: &Socket) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // The end of the connection is there to be read, too.
            match socket.try_receive(&mut self.bytes)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => self.end = count,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Receives some bytes. Before it sleeps it looks for a while: waking costs more than most answers take.
fn receive(socket: &Socket, bytes: &mut [u8]) -> io::Result<usize> {
    let started = Instant::now();
    loop {
        if let Some(count) = socket.try_receive(bytes)? {
            return Ok(count);
        }
        if started.elapsed() >= PATIENCE {
            return socket.receive(bytes);
        }
        // Others who could run must: looking is only cheap when nobody else wants the processor.
        std::thread::yield_now();
    }
}

impl std::os::fd::AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
