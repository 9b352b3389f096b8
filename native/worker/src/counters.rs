//! What a worker counts; the acceptor gets it as a report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Counts since the worker started. Shared with the thread that reports them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records executed.
    pub calls: AtomicU64,
    /// Records that the client waited for.
    pub round_trips: AtomicU64,
    /// Calls that the client answered by itself; known at its end.
    pub local_calls: AtomicU64,
    /// Bytes received from the client.
    pub bytes_received: AtomicU64,
    /// Bytes sent to the client.
    pub bytes_sent: AtomicU64,
    /// Kernels launched.
    pub kernel_launches: AtomicU64,
    /// Time in which this worker executed calls or waited for the GPU.
    pub busy_nanoseconds: AtomicU64,
    /// Waits for the GPU that have begun and not ended.
    pub waits: AtomicU64,
    /// Most memory reserved at once, over all GPUs.
    pub memory_peak_bytes: AtomicU64,
}

/// A report, as JSON on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    #[serde(rename = "type")]
    kind: &'static str,
    calls: u64,
    round_trips: u64,
    local_calls: u64,
    bytes_received: u64,
    bytes_sent: u64,
    kernel_launches: u64,
    busy_ms: u64,
    memory_peak_bytes: u64,
    per_gpu: Vec<GpuReport>,
}

/// Memory of one GPU in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuReport {
    /// The GPU.
    pub uuid: String,
    /// Bytes this worker has reserved on it.
    pub memory_used_bytes: u64,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Counts the time since the last look as busy when the GPU is being waited for: a long kernel is use, also while its
    /// program makes no call. `busy_before` is what was counted when `elapsed` began.
    pub fn count_waiting(&self, busy_before: u64, elapsed: Duration) {
        if self.waits.load(Ordering::Relaxed) == 0 {
            return;
        }
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let counted = self.busy_nanoseconds.load(Ordering::Relaxed).saturating_sub(busy_before);
        Self::add(&self.busy_nanoseconds, elapsed.saturating_sub(counted));
    }

    /// The counts now.
    pub fn report(&self, per_gpu: Vec<GpuReport>) -> Report {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            kind: "report",
            calls: read(&self.calls),
            round_trips: read(&self.round_trips),
            local_calls: read(&self.local_calls),
            bytes_received: read(&self.bytes_received),
            bytes_sent: read(&self.bytes_sent),
            kernel_launches: read(&self.kernel_launches),
            busy_ms: read(&self.busy_nanoseconds) / 1_000_000,
            memory_peak_bytes: read(&self.memory_peak_bytes),
            per_gpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_gpu_is_waited_for_is_busy_once() {
        let counters = Counters::default();
        counters.count_waiting(0, Duration::from_millis(1_000));
        assert_eq!(counters.report(Vec::new()).busy_ms, 0, "nothing is waited for");
        Counters::add(&counters.waits, 1);
        Counters::add(&counters.busy_nanoseconds, 300_000_000);
        counters.count_waiting(0, Duration::from_millis(1_000));
        assert_eq!(counters.report(Vec::new()).busy_ms, 1_000);
        counters.count_waiting(1_000_000_000, Duration::from_millis(500));
        assert_eq!(counters.report(Vec::new()).busy_ms, 1_500);
    }
}
