//! How much a stream has before it, without asking the driver for every launch.
//!
//! A real driver blocks its caller at about 1,000 unfinished launches of one stream, which here would stop all
//! streams of the client. So a marker is put behind every 256 launches, and a stream with two markers before it
//! takes no more launches until one is reached.

use std::sync::atomic::{AtomicU32, Ordering};

/// Launches from marker to marker.
const STEP: u32 = 256;

/// Markers that may be unreached.
const MARKERS: u32 = 2;

/// The gauge of a stream.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Since the last marker; only the issuing thread counts.
    launches: AtomicU32,
    markers: AtomicU32,
}

impl Gauge {
    /// Whether the stream takes a launch now.
    pub fn is_open(&self) -> bool {
        self.markers.load(Ordering::Acquire) < MARKERS
    }

    /// Counts a launch. Answers whether a marker must be put behind it now.
    pub fn launched(&self) -> bool {
        let launches = self.launches.load(Ordering::Relaxed) + 1;
        if launches < STEP {
            self.launches.store(launches, Ordering::Relaxed);
            return false;
        }
        self.launches.store(0, Ordering::Relaxed);
        self.markers.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// A marker was reached, or could not be put.
    pub fn reached(&self) {
        self.markers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_closes_after_two_markers_and_opens_when_one_is_reached() {
        let gauge = Gauge::default();
        let mut markers = 0;
        let mut launches = 0;
        while gauge.is_open() {
            markers += u32::from(gauge.launched());
            launches += 1;
        }
        assert_eq!((launches, markers), (512, 2));
        gauge.reached();
        assert!(gauge.is_open());
    }
}
