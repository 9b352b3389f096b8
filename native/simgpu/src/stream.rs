//! Streams: queues of work with an executor thread each.
//!
//! Work of a stream runs in order on the stream's own thread, so a program that forgets to synchronise sees it.
//! Every piece of work has a number in its stream; a [`Ticket`] names it. Work may wait for tickets of other
//! streams (events, and the rules of the legacy default stream); a ticket always names work that was queued
//! before, so nothing waits in a circle. A caller that would wait anyway may run its work itself when the stream
//! is idle ([`Stream::run`]): that spares two thread switches.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuda_abi::{CU_STREAM_NON_BLOCKING, CUresult, CUstream};

use crate::capture::{self, Branch};
use crate::config::config;
use crate::context::{self, Context};
use crate::device::lock;
use crate::event::Event;
use crate::guard::{self, Answer};
use graph::Registry;

/// Launches block their caller when this many are unfinished.
const LAUNCH_LIMIT: u64 = 1024;
/// How long a thread looks before it sleeps: about two thread switches.
const SPIN: Duration = Duration::from_micros(20);
/// How long a stream's thread leaves new work to its caller, who can do it sooner if it is about to wait for it.
const GRACE: Duration = Duration::from_micros(2);
/// A thread without work ends after this time; the stream's next work starts another. Streams of threads that
/// are gone would keep theirs for ever otherwise.
const IDLE: Duration = Duration::from_secs(2);

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Legacy,
    PerThread,
    Created,
}

/// A stream.
pub struct Stream {
    pub context: Arc<Context>,
    pub role: Role,
    pub flags: u32,
    pub priority: i32,
    pub id: u64,
    /// Its part in a capture.
    pub branch: Mutex<Option<Branch>>,
    submitted: AtomicU64,
    /// At most one of them is not completed.
    started: AtomicU64,
    completed: AtomicU64,
    queue: Mutex<Queue>,
    work: Condvar,
    waiters: AtomicU32,
    done_lock: Mutex<()>,
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<Operation>,
    /// Somebody executes an operation.
    busy: bool,
    has_thread: bool,
    parked: bool,
    closing: bool,
}

struct Operation {
    after: Vec<Ticket>,
    work: Work,
}

/// Names a piece of work of a stream.
#[derive(Clone)]
pub struct Ticket {
    pub stream: Arc<Stream>,
    pub number: u64,
}

impl Ticket {
    /// Whether the work is done.
    pub fn is_done(&self) -> bool {
        self.stream.completed.load(Ordering::SeqCst) >= self.number
    }

    /// Waits until the work is done.
    pub fn wait(&self) {
        self.stream.wait_for(self.number);
    }
}

/// Work that a context does.
pub type Action = dyn FnOnce(&Arc<Context>) -> Answer + Send;

/// What a stream does.
pub enum Work {
    /// Nothing: a place in the order.
    Marker,
    /// Something that an ended context skips; an error ends the context.
    Run(Box<Action>),
    /// A function of the program, which an ended context skips: only the stream's own thread calls it.
    Host(Box<dyn FnOnce() + Send>),
    /// Something that is told the context's error and always runs.
    Callback(Box<dyn FnOnce(CUresult) + Send>),
    /// Notes the time for an event.
    Stamp(Arc<Event>, u64),
}

/// All streams of programs' own.
pub static STREAMS: Registry<Stream> = Registry::new();

impl Stream {
    /// Makes a stream; its thread starts with its first work.
    pub fn new(context: &Arc<Context>, role: Role, flags: u32, priority: i32) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            context: Arc::clone(context),
            role,
            flags,
            priority,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            branch: Mutex::new(None),
            submitted: AtomicU64::new(0),
            started: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            queue: Mutex::default(),
            work: Condvar::new(),
            waiters: AtomicU32::new(0),
            done_lock: Mutex::new(()),
            done: Condvar::new(),
        })
    }

    fn is_blocking(&self) -> bool {
        self.flags & CU_STREAM_NON_BLOCKING == 0
    }

    /// The newest work.
    pub fn last(self: &Arc<Self>) -> Ticket {
        Ticket { stream: Arc::clone(self), number: self.submitted.load(Ordering::SeqCst) }
    }

    /// Whether all work is done.
    pub fn is_idle(&self) -> bool {
        self.completed.load(Ordering::SeqCst) >= self.submitted.load(Ordering::SeqCst)
    }

    /// What new work has to wait for in other streams, by the rules of the legacy default stream.
    fn implicit_dependencies(self: &Arc<Self>) -> Vec<Ticket> {
        let mut after = Vec::new();
        match self.role {
            Role::Legacy => self.context.for_each_stream(|stream| {
                if stream.is_blocking() && !stream.is_idle() {
                    after.push(stream.last());
                }
            }),
            Role::PerThread | Role::Created if self.is_blocking() => {
                if let Some(legacy) = self.context.legacy_if_used().filter(|legacy| !legacy.is_idle()) {
                    after.push(legacy.last());
                }
            }
            Role::PerThread | Role::Created => {}
        }
        after
    }

    /// Queues work.
    pub fn submit(self: &Arc<Self>, work: Work) -> Ticket {
        self.submit_after(None, work)
    }

    /// Queues work that waits for a ticket too.
    pub fn submit_after(self: &Arc<Self>, ticket: Option<Ticket>, work: Work) -> Ticket {
        let mut after = self.implicit_dependencies();
        after.extend(ticket.filter(|ticket| !ticket.is_done()));
        let mut queue = lock(&self.queue);
        let number = self.submitted.load(Ordering::SeqCst) + 1;
        queue.operations.push_back(Operation { after, work });
        self.submitted.store(number, Ordering::SeqCst);
        self.wake(&mut queue);
        Ticket { stream: Arc::clone(self), number }
    }

    /// Queues pieces of work one behind the other, with nothing in between, after a ticket. Each may wait for a
    /// further ticket. Answers the number of the first.
    pub fn submit_batch(self: &Arc<Self>, ticket: Option<Ticket>, works: Vec<(Option<Ticket>, Work)>) -> u64 {
        let submitted = self.submitted.load(Ordering::SeqCst);
        if config().unkind.launch_limit && submitted >= LAUNCH_LIMIT {
            self.wait_for(submitted + 1 - LAUNCH_LIMIT);
        }
        let mut first_after = self.implicit_dependencies();
        first_after.extend(ticket.filter(|ticket| !Arc::ptr_eq(&ticket.stream, self) && !ticket.is_done()));
        let mut queue = lock(&self.queue);
        let first = self.submitted.load(Ordering::SeqCst) + 1;
        let count = works.len() as u64;
        for (ticket, work) in works {
            let mut after = std::mem::take(&mut first_after);
            after.extend(ticket);
            queue.operations.push_back(Operation { after, work });
        }
        self.submitted.store(first + count - 1, Ordering::SeqCst);
        self.wake(&mut queue);
        first
    }

    fn wake(self: &Arc<Self>, queue: &mut Queue) {
        if !queue.has_thread {
            queue.has_thread = true;
            start_executor(self);
        } else if queue.parked {
            self.work.notify_one();
        }
    }

    /// Queues a launch: blocks while too many are unfinished.
    pub fn submit_launch(self: &Arc<Self>, work: Work) {
        let submitted = self.submitted.load(Ordering::SeqCst);
        if config().unkind.launch_limit && submitted >= LAUNCH_LIMIT {
            self.wait_for(submitted + 1 - LAUNCH_LIMIT);
        }
        self.submit(work);
    }

    /// Lets work that takes no time happen at once, if nothing is before it; `false` when it must be queued.
    pub fn pass(self: &Arc<Self>, work: impl FnOnce()) -> bool {
        if !self.is_idle() || !self.implicit_dependencies().is_empty() || self.context.poison().is_some() {
            return false;
        }
        let queue = lock(&self.queue);
        if !queue.operations.is_empty() || queue.busy {
            return false;
        }
        work();
        self.submitted.fetch_add(1, Ordering::SeqCst);
        self.started.fetch_add(1, Ordering::SeqCst);
        self.completed.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Runs work in its turn and waits for it.
    pub fn run(self: &Arc<Self>, work: impl FnOnce(&Arc<Context>) -> Answer + Send + 'static) {
        let after = self.implicit_dependencies();
        if after.is_empty() {
            let mut queue = lock(&self.queue);
            if queue.operations.is_empty() && !queue.busy {
                queue.busy = true;
                let number = self.submitted.load(Ordering::SeqCst) + 1;
                self.submitted.store(number, Ordering::SeqCst);
                self.started.fetch_add(1, Ordering::SeqCst);
                drop(queue);
                self.execute(Work::Run(Box::new(work)));
                self.complete();
                return;
            }
        }
        self.submit(Work::Run(Box::new(work))).wait();
    }

    fn execute(&self, work: Work) {
        let poison = self.context.poison();
        let outcome = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Marker => Ok(()),
            Work::Run(_) | Work::Host(_) if poison.is_some() => Ok(()),
            Work::Run(run) => run(&self.context),
            Work::Host(function) => {
                function();
                Ok(())
            }
            Work::Callback(callback) => {
                callback(poison.unwrap_or(CUresult::SUCCESS));
                Ok(())
            }
            Work::Stamp(event, generation) => {
                event.stamp(generation, Instant::now());
                Ok(())
            }
        }));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.context.set_poison(error),
            Err(_) => self.context.set_poison(CUresult::LAUNCH_FAILED),
        }
    }

    fn complete(&self) {
        {
            let mut queue = lock(&self.queue);
            queue.busy = false;
            self.completed.fetch_add(1, Ordering::SeqCst);
            if queue.parked && !queue.operations.is_empty() {
                self.work.notify_one();
            }
        }
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.done_lock));
            self.done.notify_all();
        }
    }

    fn wait_for(&self, number: u64) {
        let reached = || self.completed.load(Ordering::SeqCst) >= number;
        // A thread that would only wait does the work itself: cheaper than waking another one.
        while !reached() && self.execute_next_here() {}
        if spin_until(SPIN, reached) {
            return;
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = lock(&self.done_lock);
        while !reached() {
            guard = self.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Executes the next operation on the calling thread, if nobody executes one and nothing holds it back.
    fn execute_next_here(&self) -> bool {
        let mut queue = lock(&self.queue);
        let ready = |operation: &Operation| {
            matches!(operation.work, Work::Run(_) | Work::Marker | Work::Stamp(..))
                && operation.after.iter().all(Ticket::is_done)
        };
        if queue.busy || !queue.operations.front().is_some_and(ready) {
            return false;
        }
        let Some(operation) = queue.operations.pop_front() else { return false };
        queue.busy = true;
        self.started.fetch_add(1, Ordering::SeqCst);
        drop(queue);
        self.execute(operation.work);
        self.complete();
        true
    }

    /// Waits until all work queued so far is done.
    pub fn wait_idle(&self) {
        self.wait_for(self.submitted.load(Ordering::SeqCst));
    }

    /// Waits like `cuStreamSynchronize`: on the legacy stream also for the work that it would wait for.
    ///
    /// # Errors
    /// The error that ended the context.
    pub fn synchronize(self: &Arc<Self>) -> Answer {
        for ticket in self.implicit_dependencies() {
            ticket.wait();
        }
        self.wait_idle();
        self.context.output.flush();
        self.context.check()
    }

    /// Lets the stream go: work that is queued still runs, and its thread ends after it.
    pub fn retire(self: &Arc<Self>) {
        if self.is_idle() {
            self.context.drop_stream(self);
        } else {
            let gone = Arc::clone(self);
            self.submit(Work::Callback(Box::new(move |_| gone.context.drop_stream(&gone))));
        }
        self.close();
    }

    /// Lets the executor end once the queue is empty.
    pub fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closing = true;
        self.work.notify_all();
    }

    /// Work that nobody does, and that nothing before it holds back.
    fn waiting(&self) -> u64 {
        let started = self.started.load(Ordering::SeqCst);
        if self.completed.load(Ordering::SeqCst) < started {
            return 0;
        }
        self.submitted.load(Ordering::SeqCst).saturating_sub(started)
    }

    /// Looks for a while whether there is work, or callers do it. False when nothing happens.
    fn look_for_work(&self) -> bool {
        let seen = self.started.load(Ordering::SeqCst);
        if !spin_until(SPIN, || self.waiting() > 0 || self.started.load(Ordering::SeqCst) != seen) {
            return false;
        }
        spin_until(GRACE, || self.waiting() != 1);
        true
    }

    fn next_operation(&self) -> Option<Operation> {
        let mut queue = lock(&self.queue);
        loop {
            if !queue.busy
                && let Some(operation) = queue.operations.pop_front()
            {
                queue.busy = true;
                self.started.fetch_add(1, Ordering::SeqCst);
                return Some(operation);
            }
            if queue.operations.is_empty() && queue.closing {
                return None;
            }
            drop(queue);
            let found = self.look_for_work();
            queue = lock(&self.queue);
            if found {
                continue;
            }
            if queue.busy || (queue.operations.is_empty() && !queue.closing) {
                queue.parked = true;
                let waited = self.work.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
                queue = waited.0;
                queue.parked = false;
                if waited.1.timed_out() && queue.operations.is_empty() {
                    queue.has_thread = false;
                    return None;
                }
            }
        }
    }
}

fn start_executor(stream: &Arc<Stream>) {
    let stream = Arc::clone(stream);
    let body = move || {
        while let Some(operation) = stream.next_operation() {
            for ticket in &operation.after {
                ticket.wait();
            }
            if !guard::is_exiting() {
                stream.execute(operation.work);
            }
            stream.complete();
        }
    };
    with_signals_blocked(|| {
        let started = std::thread::Builder::new().name("farpool-stream".to_owned()).spawn(body);
        assert!(started.is_ok(), "a stream needs a thread");
    });
}

/// Runs `body` with all signals blocked, so that threads started in it inherit the mask: signals are the
/// program's affair.
pub fn with_signals_blocked(body: impl FnOnce()) {
    // SAFETY: signal sets are plain memory; the old mask is put back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        body();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
    }
}

fn spin_until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    if condition() {
        return true;
    }
    let begin = Instant::now();
    loop {
        for _ in 0..32 {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() > limit {
            return false;
        }
    }
}

/// Like [`stream`], also where the legacy stream may not be used during a capture.
///
/// # Errors
/// As [`stream`], but for STREAM_CAPTURE_IMPLICIT.
pub fn stream_at_any_time(handle: CUstream) -> Answer<Arc<Stream>> {
    match handle.0 {
        0 | 1 => Ok(context::current()?.legacy()),
        _ => stream(handle),
    }
}

/// The stream of a handle: 0 and 1 are the legacy default stream, 2 is the calling thread's own.
///
/// # Errors
/// INVALID_CONTEXT without a current context, INVALID_HANDLE for a handle that names nothing, the error that ended
/// the context, or STREAM_CAPTURE_IMPLICIT for the legacy stream while a stream captures for which it would wait.
pub fn stream(handle: CUstream) -> Answer<Arc<Stream>> {
    match handle.0 {
        0 | 1 => {
            let context = context::current()?;
            capture::legacy_used(&context)?;
            Ok(context.legacy())
        }
        2 => Ok(context::current()?.per_thread()),
        other => {
            context::current()?;
            let stream = STREAMS.find(other).ok_or(CUresult::INVALID_HANDLE)?;
            stream.context.check()?;
            Ok(stream)
        }
    }
}
