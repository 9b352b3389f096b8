//! Where a process stands with CUDA. A child does not inherit it, however it was made: the word lies on a page that the
//! kernel clears in children, so that even one made by a raw `clone` knows itself to be one.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

const CLEARED: u8 = 0;
const IDLE: u8 = 1;
const STARTING: u8 = 2;
const RUNNING: u8 = 3;
const EXITING: u8 = 4;

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `cuInit` did not succeed so far.
    Idle,
    /// A thread is in the middle of `cuInit`.
    Starting,
    /// `cuInit` succeeded.
    Running,
    /// The child of a process that had called `cuInit`, or was just about to: nothing works here.
    Forked,
    /// The process has begun to end.
    Exiting,
}

/// The phase of this process.
#[derive(Debug)]
pub struct PhaseWord {
    word: AtomicPtr<AtomicU8>,
    /// Whether `cuInit` was begun in this process or the one that it is a child of.
    begun: AtomicBool,
}

impl PhaseWord {
    /// Idle.
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicPtr::new(std::ptr::null_mut()), begun: AtomicBool::new(false) }
    }

    /// Whether `cuInit` succeeded, and nothing else is the case: the question of every call.
    #[inline]
    pub fn is_running(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        // SAFETY: a word that was made is never unmade.
        unsafe { word.as_ref() }.is_some_and(|word| word.load(Ordering::Acquire) == RUNNING)
    }

    /// Where this process stands.
    pub fn get(&self) -> Phase {
        let word = self.word.load(Ordering::Acquire);
        // SAFETY: as above.
        let Some(word) = (unsafe { word.as_ref() }) else { return Phase::Idle };
        match word.load(Ordering::Acquire) {
            CLEARED if self.begun.load(Ordering::Acquire) => Phase::Forked,
            STARTING => Phase::Starting,
            RUNNING => Phase::Running,
            EXITING => Phase::Exiting,
            _ => Phase::Idle,
        }
    }

    /// Begins `cuInit`, if nobody did before. Every `true` must be followed by [`PhaseWord::end_start`].
    pub fn start(&self) -> bool {
        let word = self.made();
        let began = word.compare_exchange(IDLE, STARTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
            || (!self.begun.load(Ordering::Acquire)
                && word.compare_exchange(CLEARED, STARTING, Ordering::AcqRel, Ordering::Acquire).is_ok());
        if began {
            self.begun.store(true, Ordering::Release);
        }
        began
    }

    /// Ends what [`PhaseWord::start`] began.
    pub fn end_start(&self, succeeded: bool) {
        if !succeeded {
            self.begun.store(false, Ordering::Release);
        }
        self.made().store(if succeeded { RUNNING } else { IDLE }, Ordering::Release);
    }

    /// Notes that the process has begun to end; whether it was running.
    pub fn exit(&self) -> bool {
        self.made().compare_exchange(RUNNING, EXITING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Notes that the process ends in the middle of `cuInit`: [`PhaseWord::end_start`] does not follow.
    pub fn exit_from_start(&self) {
        let _ = self.made().compare_exchange(STARTING, EXITING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Notes in a child that it is one, for kernels that do not clear the word: async-signal-safe.
    pub fn forked(&self) {
        // SAFETY: as above.
        if let Some(word) = unsafe { self.word.load(Ordering::Acquire).as_ref() } {
            word.store(CLEARED, Ordering::Release);
        }
    }

    fn made(&self) -> &AtomicU8 {
        let known = self.word.load(Ordering::Acquire);
        // SAFETY: as above.
        if let Some(word) = unsafe { known.as_ref() } {
            return word;
        }
        let made = cleared_in_children().unwrap_or_else(|| Box::into_raw(Box::new(AtomicU8::new(CLEARED))));
        // SAFETY: made just now, and never unmade (one that loses the race is left alone).
        unsafe { &*made }.store(IDLE, Ordering::Release);
        let null = std::ptr::null_mut();
        let word = match self.word.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(other) => other,
        };
        // SAFETY: as above.
        unsafe { &*word }
    }
}

impl Default for PhaseWord {
    fn default() -> Self {
        Self::new()
    }
}

/// A word of zeros on a page of its own; `None` where the kernel has no such pages (before 4.14).
fn cleared_in_children() -> Option<*mut AtomicU8> {
    const PAGE: usize = 4096;
    // SAFETY: a new private mapping; nobody knows its address.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, PAGE);
            return None;
        }
        Some(page.cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `question` answers in a child made by a raw `clone`, which runs no handlers.
    fn in_child(question: impl Fn() -> bool) -> bool {
        // SAFETY: the child only asks and leaves by `_exit`.
        unsafe {
            let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
            if child == 0 {
                libc::_exit(i32::from(question()));
            }
            let mut status = -1;
            let child = libc::pid_t::try_from(child).expect("a process id");
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            libc::WEXITSTATUS(status) == 1
        }
    }

    #[test]
    fn a_child_is_fresh_before_cu_init_and_forked_from_its_beginning_on() {
        let phase = PhaseWord::new();
        assert!(in_child(|| phase.get() == Phase::Idle));
        assert!(phase.start());
        assert!(!phase.start(), "one at a time");
        assert!(in_child(|| phase.get() == Phase::Forked && !phase.start()));
        phase.end_start(false);
        assert_eq!(phase.get(), Phase::Idle);
        assert!(in_child(|| phase.get() == Phase::Idle && phase.start()), "after a failure a child may try");
        assert!(phase.start());
        phase.end_start(true);
        assert!(phase.is_running());
        assert!(in_child(|| phase.get() == Phase::Forked && !phase.is_running() && !phase.exit()));
        assert!(phase.exit() && phase.get() == Phase::Exiting && !phase.exit());
    }

    #[test]
    fn a_process_that_ends_in_cu_init_is_one_that_ends() {
        let phase = PhaseWord::new();
        phase.exit_from_start();
        assert_eq!(phase.get(), Phase::Idle, "nobody had begun");
        assert!(phase.start());
        phase.exit_from_start();
        assert!(phase.get() == Phase::Exiting && !phase.start() && !phase.exit());
    }
}
