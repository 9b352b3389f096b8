//! The client side of this process's worker: how calls are made, and what is known without asking.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use rustc_hash::FxHashMap;
use session::{DeferredError, ReplyHead};
use wire::handle::{self, Handle, Stream};
use wire::handshake::Goodbye;
use wire::{CallId, Reader, Reply, Request, Writer};

use crate::callback::{self, Actions};
use crate::capture::Captures;
use crate::connection::{Connection, Data, Destination, Loss, ReplyRecord};
use crate::context::{self, Contexts};
use crate::credit;
use crate::device::Devices;
use crate::entry::Answer;
use crate::event::Events;
use crate::exports::host_memory;
use crate::found::Found;
use crate::late::Late;
use crate::memory::{Forgotten, Range, Ranges};
use crate::module::Modules;
use crate::pool::Pools;
use crate::prepared;
use crate::progress::Progress;
use crate::remembered::Remembered;
use crate::report;
use crate::servers;
use crate::slab::{self, Piece, Slabs};
use crate::state;
use crate::stream::Streams;
use crate::window::Window;

/// Everything this process knows about its worker.
#[derive(Debug)]
pub struct Client {
    /// Which of the session's servers it is of.
    pub server: usize,
    connection: Arc<Connection>,
    session_id: String,
    /// Whether calls that need not wait do so: each then answers its own error.
    is_strict: bool,
    /// Whether launches wait for their streams (`CUDA_LAUNCH_BLOCKING=1`).
    is_blocking: bool,
    lost: AtomicI32,
    /// Errors of earlier calls that have not been told.
    late: Late,
    next_handle: AtomicU64,
    local_calls: AtomicU64,
    /// The GPUs.
    pub devices: &'static Devices,
    /// For each GPU of the session's on its server: whose memory it can reach.
    pub peers: Vec<Vec<bool>>,
    /// Contexts, primary ones among them.
    pub contexts: &'static Contexts,
    /// Device and host memory, by address.
    pub ranges: Ranges,
    /// Addresses that this process and the worker agree on.
    pub window: Option<Window>,
    /// Memory that the program has not asked for yet.
    pub slabs: Slabs,
    /// Modules, libraries and their functions.
    pub modules: Modules,
    /// Answers that need not be asked for again.
    pub remembered: Remembered,
    /// Memory pools.
    pub pools: Pools,
    /// Captures of streams.
    pub captures: Captures,
    /// Streams.
    pub streams: Streams,
    /// Events.
    pub events: Events,
    /// Host functions and the like that streams will wait for.
    pub actions: Actions,
    /// Streams that wait on behalf of streams of other servers.
    observers: Mutex<FxHashMap<Observed, Stream>>,
}

/// A context, and the stream of another server on whose behalf a stream of the context waits: the server, and its handle there.
pub type Observed = (handle::Context, usize, Stream);

/// What a context that is being destroyed leaves, until the worker has destroyed it.
#[derive(Debug, Default)]
pub struct Left {
    /// Its index.
    context: u32,
    /// Addresses of the window at which it has memory.
    in_window: Vec<Piece>,
    /// Fences that nobody tells of any more.
    fences: Vec<u64>,
    /// Pages of this process that it has pinned.
    pinned: Vec<Range>,
}

impl Client {
    /// The client of an open connection.
    pub fn new(
        server: usize,
        connection: Arc<Connection>,
        session_id: String,
        found: &'static Found,
        peers: Vec<Vec<bool>>,
        window: Option<Window>,
    ) -> Client {
        Client {
            server,
            connection,
            session_id,
            is_strict: place::variable(c"FARPOOL_STRICT").is_some_and(|value| value == "1"),
            is_blocking: std::env::var("CUDA_LAUNCH_BLOCKING").is_ok_and(|value| value == "1"),
            lost: AtomicI32::new(0),
            late: Late::default(),
            next_handle: AtomicU64::new(context::FIRST_HANDLE + found.devices.count() as u64),
            local_calls: AtomicU64::new(0),
            devices: &found.devices,
            peers,
            contexts: &found.contexts,
            ranges: Ranges::default(),
            window,
            slabs: Slabs::default(),
            modules: Modules::default(),
            remembered: Remembered::default(),
            pools: Pools::default(),
            captures: Captures::default(),
            streams: Streams::default(),
            events: Events::default(),
            actions: Actions::default(),
            observers: Mutex::default(),
        }
    }

    /// Whether every call waits for the worker.
    pub fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// After a launch on `stream`, which was not captured: waits for the stream where the program's user asked for that
    /// (`CUDA_LAUNCH_BLOCKING=1`), so that the launch answers what its kernel did wrong.
    pub fn launched(&self, stream: Stream) -> Answer {
        if self.is_blocking {
            self.call(&wire::cuda::CuStreamSynchronize { hStream: stream })
        } else {
            Ok(())
        }
    }

    /// Whether launches wait for their streams.
    pub fn is_blocking(&self) -> bool {
        self.is_blocking
    }

    /// The connection itself.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Copies into pinned memory of this process, which lands before anything says that the copy is complete.
    ///
    /// # Safety
    /// The memory must stay writable while [`Connection::has_downloads`] says so.
    pub unsafe fn download<'a, R: Request<'a>>(&self, request: &R, destination: Destination) -> Answer {
        current()?;
        let context = self.context_of(request.named_stream());
        // Somebody must read what arrives, also for a program that only looks at its memory.
        state::client_if_any().map(|client| callback::start(servers::other(client, self.server)));
        // SAFETY: the caller's promise.
        unsafe { self.connection.send_download(request, context, destination) }
            .map_err(|loss| self.lost(&loss))?;
        if self.is_strict {
            // The reply of the copy comes with its bytes. What is wrong with the call itself is answered at once,
            // ahead of the answer to anything asked after it.
            self.call(&wire::cuda::CuCtxGetCacheConfig)?;
        }
        Ok(())
    }

    /// Counts a call that is answered here.
    pub fn count_local(&self) {
        self.local_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A handle that was never used before.
    pub fn new_handle<H: Handle>(&self) -> H {
        H::from_index(servers::handle_index(self.new_number(), self.server))
    }

    /// A number that was never used before.
    pub fn new_number(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// The context of an object of this server's, if it has one.
    pub fn context_of_handle(&self, raw: u64) -> Option<handle::Context> {
        use handle::{Event, Function, Module};
        let of_unit = |module| self.modules.context_of(module);
        let context = handle::Context::from_raw(raw);
        if context.has_kind() {
            return Some(context);
        }
        match self.streams.state(Stream::from_raw(raw)) {
            Ok(state) => Some(state.context),
            Err(_) if Event::from_raw(raw).has_kind() => {
                let index = self.events.context_index(Event::from_raw(raw)).ok()?;
                Some(handle::Context::from_index(u64::from(index)))
            }
            Err(_) if Module::from_raw(raw).has_kind() => of_unit(Module::from_raw(raw)),
            Err(_) if Function::from_raw(raw).has_kind() => {
                self.modules.code(raw).ok()?.module.and_then(of_unit)
            }
            Err(_) => None,
        }
    }

    /// The contexts on its server that are alive.
    pub fn own_contexts(&self) -> Vec<handle::Context> {
        let mut contexts = self.contexts.all();
        contexts.retain(|context| servers::of_context(*context) == self.server);
        contexts
    }

    /// Streams that wait on behalf of streams of other servers.
    pub fn observers(&self) -> MutexGuard<'_, FxHashMap<Observed, Stream>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything that belonged to a context that is being destroyed.
    ///
    /// Answers what is left for [`Client::context_destroyed`].
    #[must_use]
    pub fn forget_context(&self, context: handle::Context) -> Left {
        prepared::forget();
        let Forgotten { of_pools, pinned } = self.ranges.forget_context(context);
        for (pool, length) in of_pools {
            self.pools.unused(pool, length.next_multiple_of(slab::GRANULE));
        }
        let (in_window, fences) = credit::forget_context(self, context);
        self.modules.forget_context(context);
        self.remembered.forget();
        for stream in self.streams.of_context(context) {
            self.connection.timelines.forget(stream);
        }
        self.streams.forget_context(context);
        self.observers().retain(|(observed, ..), _| *observed != context);
        self.events.forget_context(context);
        self.connection.timelines.forget_context(context.index());
        let pointer = std::ptr::without_provenance_mut(usize::try_from(context.raw()).unwrap_or(0));
        // SAFETY: the destructors are those that NVIDIA's runtime registered for this context; it expects them
        // to run when the context goes.
        unsafe { cuda_abi::export_tables::context_local::context_gone(pointer) };
        Left { context: context.index(), in_window, fences, pinned }
    }

    /// The worker has destroyed a context, which it answered with `destroyed`, and no function of the program's runs for it
    /// any more.
    pub fn context_destroyed(&self, left: Left, destroyed: Answer) -> Answer {
        // What is known of its errors went with it, before another one can have its index.
        self.take_news();
        self.late.forget(left.context);
        left.fences.iter().for_each(|number| self.connection.fences.reached(*number));
        destroyed?;
        for piece in left.in_window {
            if let Some(window) = &self.window {
                window.rest(piece.start, piece.length);
            }
        }
        // Copies of other contexts may use its pinned memory. Where the connection is lost nobody knows, and it stays.
        let is_settled =
            || servers::clients().iter().all(|client| credit::settle_all_if_seen(client).is_ok());
        if !left.pinned.is_empty() && is_settled() {
            left.pinned.iter().for_each(host_memory::unmap);
        }
        Ok(())
    }

    /// Whether an error of an earlier call is waiting to be told to a call of the context with this index.
    pub fn has_late_errors(&self, context: u32) -> bool {
        self.connection.detached.is_some() || self.late.has(context)
    }

    /// The sticky error of the current context, or of the process once its connection is lost.
    pub fn check(&self) -> Answer {
        self.take_failures();
        self.check_connection()?;
        self.contexts.check_sticky()
    }

    fn take_failures(&self) {
        for (context, code) in self.connection.timelines.take_failures() {
            self.remember(context, CUresult(code));
        }
    }

    /// Takes notice of the errors that came by themselves.
    fn take_news(&self) {
        self.take_failures();
        while let Some(error) = self.connection.detached.take() {
            self.note_late(error);
        }
    }

    /// The error of the process once its connection is lost.
    pub fn check_connection(&self) -> Answer {
        match self.lost.load(Ordering::Relaxed) {
            // A thread that only looks may have met the end, which no call has told yet.
            0 => self.connection.loss().map_or(Ok(()), |loss| Err(self.lost(loss))),
            code => Err(CUresult(code)),
        }
    }

    /// Index of the context in which the worker makes a call that names `stream`: the stream's own, which need not be the
    /// thread's current one, though it must have one. Any other call is made in the current one.
    pub fn context_of(&self, stream: Option<Stream>) -> u32 {
        let named = stream.filter(|stream| stream.0 != 0 && self.contexts.current().is_ok());
        let state = named.and_then(|stream| self.streams.state(stream).ok());
        state.map_or_else(|| self.current_index(), |state| index_of(state.context))
    }

    /// Index of the thread's current context, if that is one of this server's; else 0, which is none.
    fn current_index(&self) -> u32 {
        let index = context::current_index();
        if servers::of_context_index(index) == self.server { index } else { 0 }
    }

    /// Sends a request and waits for the answer, on behalf of the thread's current context or of the stream that it names.
    pub fn call<'a, R: Request<'a>>(&self, request: &R) -> Answer<R::Reply> {
        self.call_in(self.context_of(request.named_stream()), request)
    }

    /// Like [`Client::call`], on behalf of the context with this index.
    pub fn call_in<'a, R: Request<'a>>(&self, context: u32, request: &R) -> Answer<R::Reply> {
        let record = self.finish(context, self.connection.call(request, context, None))?;
        self.decode::<R>(&record)
    }

    /// Like [`Client::call`] for a question whose answer stays the same: only the first time waits.
    pub fn call_once<'a, R: Request<'a>>(&self, request: &R) -> Answer<R::Reply> {
        let mut bytes = Vec::new();
        request.encode(&mut Writer::new(&mut bytes));
        let question = (R::CALL, context::current_index(), bytes);
        match self.remembered.find(&question) {
            Ok(body) => {
                self.count_local();
                Ok(R::Reply::decode(&mut Reader::new(&body)))
            }
            Err(age) => {
                let reply = self.call(request)?;
                let mut body = Vec::new();
                reply.encode(&mut Writer::new(&mut body));
                self.remembered.keep(question, body, age);
                Ok(reply)
            }
        }
    }

    /// Like [`Client::call`], also for a failed call: its code and what it returned nevertheless (JIT logs).
    pub fn call_with_code<'a, R: Request<'a>>(&self, request: &R) -> Answer<(CUresult, R::Reply)>
    where
        R::Reply: Default,
    {
        let context = self.context_of(request.named_stream());
        let record = self.connection.call(request, context, None);
        let record = record.map_err(|loss| self.lost(&loss))?;
        let code = CUresult(record.head.result);
        if let Some(deferred) = record.head.deferred {
            // What this call made is the program's: the earlier error is told by the next call that waits.
            self.note_late(deferred);
        }
        if !code.is_success() {
            self.remember(context, code);
        }
        if !code.is_success() && record.body.is_empty() {
            // Refused before the call was made: no context, say.
            return Ok((code, R::Reply::default()));
        }
        Ok((code, self.decode::<R>(&record)?))
    }

    /// Like [`Client::call`], but answers what became of this call alone: what it has made or ended must not be lost to the
    /// error of an earlier call, which the next call that waits tells.
    pub fn call_alone<'a, R: Request<'a>>(&self, request: &R) -> Answer
    where
        R::Reply: Default,
    {
        self.call_with_code(request)?.0.into_result()
    }

    /// Sends several requests at once and waits for all; data goes to each one's destination.
    pub fn call_into<'a, R: Request<'a>>(&self, requests: impl Iterator<Item = (R, Destination)>) -> Answer {
        /// Requests that may be under way: enough to keep the link busy, few enough to bound the worker's staging.
        const UNDER_WAY: usize = 4;
        let mut waiting = std::collections::VecDeque::with_capacity(UNDER_WAY);
        let mut answer = Ok(());
        let mut stream = None;
        let mut context = context::current_index();
        // However many pieces there are, the program waits once.
        self.connection.count_wait(R::CALL);
        for (request, destination) in requests {
            if waiting.len() == UNDER_WAY
                && let Some(sequence) = waiting.pop_front()
            {
                answer = answer.and(self.finish(context, self.connection.wait(sequence)).map(drop));
            }
            if answer.is_err() {
                break;
            }
            stream = request.stream();
            context = self.context_of(request.named_stream());
            match self.connection.send_call(&request, context, Some(destination)) {
                Ok(sequence) => waiting.push_back(sequence),
                Err(loss) => {
                    answer = Err(self.lost(&loss));
                    break;
                }
            }
        }
        // Every destination is in use until its own reply came, also after an error.
        for sequence in waiting {
            answer = answer.and(self.finish(context, self.connection.wait(sequence)).map(drop));
        }
        if answer.is_ok()
            && let Some(stream) = stream
        {
            self.finished_here(stream);
        }
        answer
    }

    /// Notes that the last record of this thread, a copy to this process, is finished, and so is what its stream did
    /// before. The worker says so, too, but behind the bytes.
    pub fn finished_here(&self, stream: Stream) {
        let progress = self.connection.timelines.of(context::current_index(), stream);
        progress.finished_up_to(crate::connection::last_number());
    }

    /// Sends a request that nobody waits for. A thread without a context gets its error at once.
    pub fn post<'a, R: Request<'a>>(&self, request: &R) -> Answer {
        current()?;
        self.send(request, self.context_of(request.named_stream()))
    }

    /// Like [`Client::post`], on behalf of the context with this index.
    pub fn post_in<'a, R: Request<'a>>(&self, context: u32, request: &R) -> Answer {
        self.send(request, context)
    }

    /// Sends a launch, whose payload `body` writes, on a stream whose work is `progress`.
    pub fn post_launch(&self, context: u32, progress: &Progress, body: impl FnOnce(&mut Vec<u8>)) -> Answer {
        self.connection.post_launch(context, progress, body).map_err(|loss| self.lost(&loss))
    }

    /// Like [`Client::post`] for calls that need no current context.
    pub fn post_anywhere<'a, R: Request<'a>>(&self, request: &R) -> Answer {
        self.send(request, self.context_of(request.named_stream()))
    }

    /// Waits until the worker says that what fence `number` waits for is done.
    pub fn wait_for_fence(&self, number: u64) -> Answer {
        self.connection.wait_for_fence(number).map_err(|loss| self.lost(&loss))
    }

    /// Sends a request made of `head` and `data`, which puts work on `stream` if that is given, and which nobody waits for; passing
    /// data may be reused afterwards.
    pub fn post_with_data(
        &self,
        call: CallId,
        stream: Option<Stream>,
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
    ) -> Answer {
        current()?;
        self.send_with_data(call, (self.context_of(stream), stream), head, data)
    }

    /// Sends an image in pieces that need no context.
    pub fn upload(&self, call: CallId, head: impl Fn(&mut Writer<'_>), data: &[u8]) -> Answer {
        self.send_with_data(call, (context::current_index(), None), head, Data::Passing(data))
    }

    /// In strict mode the caller waits until the worker has made the call; for the GPU nobody waits here.
    fn send<'a, R: Request<'a>>(&self, request: &R, context: u32) -> Answer {
        if self.is_strict {
            return self.finish(context, self.connection.call(request, context, None)).map(drop);
        }
        self.connection.post(request, context).map_err(|loss| self.lost(&loss))
    }

    fn send_with_data(
        &self,
        call: CallId,
        place: (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
    ) -> Answer {
        if self.is_strict {
            let record = self.connection.call_with_data(call, place, head, data);
            return self.finish(place.0, record).map(drop);
        }
        self.connection.post_with_data(call, place, head, data).map_err(|loss| self.lost(&loss))
    }

    /// The last record of this process: what only the client could count.
    pub fn say_goodbye(&self) {
        let goodbye = Goodbye {
            local_calls: self.local_calls.load(Ordering::Relaxed),
            round_trips: self.connection.counters.round_trips.load(Ordering::Relaxed),
        };
        self.connection.post_last(&goodbye);
    }

    fn finish(&self, context: u32, record: Result<ReplyRecord, Loss>) -> Answer<ReplyRecord> {
        let record = record.map_err(|loss| self.lost(&loss))?;
        self.take_news();
        self.settle(context, record.head)?;
        Ok(record)
    }

    /// The code of a waited call of `context`: its own, or that of an earlier call there that failed meanwhile.
    fn settle(&self, context: u32, head: ReplyHead) -> Answer {
        if let Some(deferred) = head.deferred {
            self.note_late(deferred);
        }
        if head.result != 0 {
            let code = CUresult(head.result);
            self.remember(context, code);
            return Err(code);
        }
        self.late.take(context).map_or(Ok(()), Err)
    }

    /// Remembers and reports the error of a call that had returned. Those of a context that is being destroyed go with it.
    fn note_late(&self, deferred: DeferredError) {
        let code = CUresult(deferred.code);
        if deferred.context != 0 && !self.contexts.is_alive(deferred.context) {
            return;
        }
        self.remember(deferred.context, code);
        self.late.note(deferred.context, code);
        report::once(&format!("{} failed after it had returned: {code}", deferred.call));
    }

    /// Notes the error of a context if it is one that stays: its streams go no further.
    fn remember(&self, context: u32, code: CUresult) {
        if is_sticky(code) && self.contexts.poison(context, code) {
            callback::abandon(self, &callback::asked_in(self, context), code);
        }
    }

    fn lost(&self, loss: &Loss) -> CUresult {
        let code = CUresult::DEVICE_UNAVAILABLE;
        self.lost.store(code.0, Ordering::Relaxed);
        let what = match servers::count() {
            1 => "CUDA calls of this process".to_owned(),
            count => format!("CUDA calls of this process to server {} of {count}", self.server + 1),
        };
        report::once(&format!("session {}: {loss}; {what} fail from here on", self.session_id));
        code
    }

    fn decode<'a, R: Request<'a>>(&self, record: &ReplyRecord) -> Answer<R::Reply> {
        let mut reader = Reader::new(&record.body);
        let reply = R::Reply::decode(&mut reader);
        reader.finish(R::CALL).map_err(|error| {
            let loss = Loss::Wire(error);
            self.connection.lose(loss.clone());
            self.lost(&loss)
        })?;
        Ok(reply)
    }
}

/// The current context of this thread, for calls that need one.
fn current() -> Answer<u32> {
    match context::current_index() {
        0 => Err(CUresult::INVALID_CONTEXT),
        context => Ok(context),
    }
}

/// Errors that CUDA keeps answering until the context is gone.
fn is_sticky(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::ILLEGAL_ADDRESS
            | CUresult::LAUNCH_TIMEOUT
            | CUresult::ASSERT
            | CUresult::HARDWARE_STACK_ERROR
            | CUresult::ILLEGAL_INSTRUCTION
            | CUresult::MISALIGNED_ADDRESS
            | CUresult::INVALID_ADDRESS_SPACE
            | CUresult::INVALID_PC
            | CUresult::LAUNCH_FAILED
            | CUresult::ECC_UNCORRECTABLE
            | CUresult::DEVICE_UNAVAILABLE
    )
}

/// Context index for record headers.
pub fn index_of(context: handle::Context) -> u32 {
    context.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> &'static Found {
        Box::leak(Box::new(Found::new(0, crate::device::Devices::new(Vec::new()), None)))
    }
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use session::DeferredErrors;
    use transport::Socket;
    use wire::record::{HEADER_BYTES, encode_record};
    use wire::{Header, cuda};

    /// Answers every request with success, the first one also with the error of an earlier call.
    fn answer(mut socket: UnixStream) {
        let mut errors = DeferredErrors::default();
        let call = <cuda::CuLaunchKernel<'_> as Request<'_>>::CALL;
        errors.note(DeferredError { call, context: 0, code: CUresult::INVALID_VALUE.0 });
        let mut header = [0; HEADER_BYTES];
        while socket.read_exact(&mut header).is_ok() {
            let header = Header::decode(&header).expect("a header");
            let mut payload = vec![0; header.length as usize];
            socket.read_exact(&mut payload).expect("a payload");
            let head = ReplyHead { result: 0, deferred: errors.take(0) };
            let mut record = Vec::new();
            encode_record(&mut record, header.call, head.flags(), 0, header.sequence, |writer| {
                head.encode(writer);
                if header.call == <cuda::CuModuleLoadDataEx<'_> as Request<'_>>::CALL {
                    cuda::CuModuleLoadDataExReply::default().encode(writer);
                }
            });
            socket.write_all(&record).expect("a reply");
        }
    }

    #[test]
    fn an_error_that_came_with_a_module_load_is_told_by_the_next_call_that_waits() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let worker = std::thread::spawn(|| answer(theirs));
        let connection =
            Connection::start(Socket::from_descriptor(ours.into()).into(), None).expect("a connection");
        let client = Client::new(0, Arc::clone(&connection), "s".into(), nothing(), Vec::new(), None);
        let load = cuda::CuModuleLoadDataEx {
            module: client.new_handle(),
            blob: 0,
            image: &[],
            options: Vec::new(),
        };
        let (code, _) = client.call_with_code(&load).expect("an answer");
        assert!(code.is_success(), "the module was loaded and must not be lost");
        assert_eq!(client.call(&cuda::CuCtxSynchronize), Err(CUresult::INVALID_VALUE));
        assert_eq!(client.call(&cuda::CuCtxSynchronize), Ok(()), "told once");
        connection.lose(Loss::Io("the test is over".into()));
        worker.join().expect("the worker");
    }
    /// Refuses every request; one that wants no reply makes it fail.
    fn refuse_all(mut socket: UnixStream) {
        let mut header = [0; HEADER_BYTES];
        while socket.read_exact(&mut header).is_ok() {
            let header = Header::decode(&header).expect("a header");
            let mut payload = vec![0; header.length as usize];
            socket.read_exact(&mut payload).expect("a payload");
            assert_ne!(header.flags & wire::record::flags::WANTS_REPLY, 0, "{} is waited for", header.call);
            let head = ReplyHead { result: CUresult::INVALID_VALUE.0, deferred: None };
            let mut record = Vec::new();
            encode_record(&mut record, header.call, head.flags(), 0, header.sequence, |writer| {
                head.encode(writer);
            });
            socket.write_all(&record).expect("a reply");
        }
    }

    #[test]
    fn in_strict_mode_every_call_answers_its_own_error() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let worker = std::thread::spawn(|| refuse_all(theirs));
        let connection =
            Connection::start(Socket::from_descriptor(ours.into()).into(), None).expect("a connection");
        let mut client = Client::new(0, Arc::clone(&connection), "s".into(), nothing(), Vec::new(), None);
        client.is_strict = true;
        let unload = cuda::CuModuleUnload { module: client.new_handle() };
        assert_eq!(client.post_anywhere(&unload), Err(CUresult::INVALID_VALUE));
        let stage = <cuda::FarpoolStage<'_> as Request<'_>>::CALL;
        for bytes in [10, 100_000] {
            let answer = client.upload(stage, |writer| writer.put_u64(1), &vec![0; bytes]);
            assert_eq!(answer, Err(CUresult::INVALID_VALUE), "{bytes} bytes");
        }
        connection.lose(Loss::Io("the test is over".into()));
        worker.join().expect("the worker");
    }
}
