//! Things that the client does while a stream waits for it: host functions, and the bytes of copies whose source
//! may still change.
//!
//! The driver calls [`host_function`] when the stream gets there. It has the client told and blocks the driver's
//! callback thread (and so the stream, nothing else) until the client says that it is done. The telling happens on a
//! thread of its own: downloads that are finished must arrive first, and no CUDA call is permitted in a callback.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use wire::CallId;
use wire::notice;

use crate::graphs::Owed;
use crate::outbox::Outbox;
use crate::waits::Downloads;

/// Callbacks that were told to the client.
#[derive(Debug)]
pub struct Callbacks {
    reached: Sender<Reached>,
    asked: Mutex<HashMap<u64, Asked>>,
    arrived: Condvar,
    /// Callbacks that streams will get to, or wait for.
    holds: AtomicUsize,
}

/// What the client was asked for and has not done, or has done and nobody has seen.
#[derive(Debug, Default)]
struct Asked {
    /// How many wait.
    waiting: usize,
    /// What it answered to some of them.
    answers: Vec<Vec<u8>>,
}

/// What a stream has got to.
enum Reached {
    /// Something that the client must do.
    Callback(u64),
    /// An answer to the client, with its bytes; somebody waits until it has left.
    Answer(Arc<Owed>, Vec<u8>, SyncSender<()>),
}

/// One callback, as the driver keeps it until the stream gets there.
pub struct Hold {
    callbacks: Arc<Callbacks>,
    token: u64,
    /// Where the bytes of a pull go: pinned memory that a later copy of the same stream reads.
    target: Option<(*mut u8, usize)>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.callbacks.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Callbacks {
    /// Starts the thread that tells the client.
    pub fn start(outbox: Arc<Outbox>, downloads: Downloads) -> std::io::Result<Callbacks> {
        let (reached, arrivals) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("callbacks".into()).spawn(move || {
            for reached in arrivals {
                downloads.send_finished();
                match reached {
                    Reached::Callback(token) => {
                        let callback = notice::Callback { token, code: 0 };
                        outbox.notice(CallId::CALLBACK, |writer| callback.encode(writer));
                    }
                    Reached::Answer(owed, bytes, done) => {
                        owed.answer(&outbox, CUresult::SUCCESS, &bytes);
                        // Whoever waits may be gone with its stream.
                        let _ = done.send(());
                    }
                }
                outbox.flush();
            }
        })?;
        Ok(Callbacks {
            reached,
            asked: Mutex::default(),
            arrived: Condvar::new(),
            holds: AtomicUsize::new(0),
        })
    }

    /// Whether streams will get to callbacks, or wait for them.
    pub fn holds_streams(&self) -> bool {
        self.holds.load(Ordering::Acquire) > 0
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has done what callback `token` asked for. An answer that nobody waits for is dropped: it is only kept for
    /// those who do.
    pub fn finished(&self, token: u64, data: &[u8]) {
        let mut all = self.asked();
        if let Some(asked) = all.get_mut(&token).filter(|asked| asked.answers.len() < asked.waiting) {
            asked.answers.push(data.to_vec());
            self.arrived.notify_all();
        }
    }

    /// What the driver is given for [`host_function`]; it must be called exactly once.
    pub fn hold(self: &Arc<Self>, token: u64, target: Option<(*mut u8, usize)>) -> *mut c_void {
        self.holds.fetch_add(1, Ordering::AcqRel);
        Box::into_raw(Box::new(Hold { callbacks: Arc::clone(self), token, target })).cast()
    }

    /// Takes a hold back that the driver did not accept.
    ///
    /// # Safety
    /// `hold` is from [`Callbacks::hold`] and the driver will not call it.
    pub unsafe fn take_back(hold: *mut c_void) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(hold.cast::<Hold>()) });
    }

    /// Answers the client, behind the bytes of all copies that are finished by now. Returns when the answer leaves before
    /// everything that is said from here on.
    pub fn answer(&self, owed: Arc<Owed>, bytes: Vec<u8>) {
        let (done, sent) = sync_channel(1);
        if self.reached.send(Reached::Answer(owed, bytes, done)).is_ok() {
            let _ = sent.recv();
        }
    }

    /// Has the client do what callback `token` asks for, and waits until it is done: what it answered.
    pub fn perform(&self, token: u64) -> Vec<u8> {
        self.asked().entry(token).or_default().waiting += 1;
        if self.reached.send(Reached::Callback(token)).is_err() {
            return Vec::new();
        }
        let mut all = self.asked();
        loop {
            if let Some(asked) = all.get_mut(&token)
                && let Some(data) = asked.answers.pop()
            {
                asked.waiting -= 1;
                if asked.waiting == 0 {
                    all.remove(&token);
                }
                return data;
            }
            all = self.arrived.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the driver calls when a stream gets to a callback.
///
/// # Safety
/// `hold` is from [`Callbacks::hold`] and was not passed here before.
pub unsafe extern "C" fn host_function(hold: *mut c_void) {
    // SAFETY: the caller's promise: this takes the box back that `hold` let go.
    let hold = unsafe { Box::from_raw(hold.cast::<Hold>()) };
    let data = hold.callbacks.perform(hold.token);
    if let Some((target, length)) = hold.target {
        let count = data.len().min(length);
        // SAFETY: the target is a staging buffer of `length` bytes that is kept until the stream's next copy, which
        // reads it, has ended.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target, count) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found on the way: what a client said of callbacks that nobody had asked for was kept for ever.
    #[test]
    fn answers_that_nobody_waits_for_are_dropped() {
        let (reached, arrivals) = std::sync::mpsc::channel();
        let callbacks = Callbacks {
            reached,
            asked: Mutex::default(),
            arrived: Condvar::new(),
            holds: AtomicUsize::new(0),
        };
        callbacks.finished(7, b"unasked");
        assert!(callbacks.asked().is_empty());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| callbacks.perform(7));
            assert!(matches!(arrivals.recv(), Ok(Reached::Callback(7))));
            callbacks.finished(8, b"of another");
            callbacks.finished(7, b"asked");
            callbacks.finished(7, b"again");
            assert_eq!(waiting.join().expect("the waiting thread"), b"asked");
        });
        assert!(callbacks.asked().is_empty());
    }
}
