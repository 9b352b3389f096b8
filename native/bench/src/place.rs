//! Processors for two ends that spin: on one processor they would wait for each other's time slices.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which of the processors that this process may use.
#[derive(Clone, Copy)]
pub enum End {
    First,
    Last,
}

/// This thread stays on one processor until this is dropped.
pub struct Place {
    before: CpuSet,
}

impl Place {
    pub fn take(end: End) -> anyhow::Result<Place> {
        let before = sched_getaffinity(None)?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|processor| before.is_set(*processor));
        let chosen = match end {
            End::First => allowed.next(),
            End::Last => allowed.next_back(),
        };
        let mut only = CpuSet::new();
        only.set(chosen.unwrap_or(0));
        sched_setaffinity(None, &only)?;
        Ok(Place { before })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = sched_setaffinity(None, &self.before);
    }
}
