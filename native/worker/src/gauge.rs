//! How much a stream has before it, without asking the driver for every launch.
//!
//! A real driver blocks its caller when a stream has about 1,000 unfinished pieces of work, which here would stop all
//! streams of the client. So a marker is put behind every 256 pieces, and a stream with two markers before it
//! takes no more work until one is reached. Then the client is told, too, as it makes its own caller wait when a stream
//! has too much before it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Pieces of work from marker to marker.
const STEP: u32 = 256;

/// Markers that may be unreached.
const MARKERS: u32 = 2;

/// The gauge of a stream.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Since the last marker; only the issuing thread counts.
    pieces: AtomicU32,
    markers: AtomicU32,
}

impl Gauge {
    /// Whether the stream takes work now.
    pub fn is_open(&self) -> bool {
        self.markers.load(Ordering::Acquire) < MARKERS
    }

    /// Counts a piece of work. Answers whether a marker must be put behind it now.
    pub fn takes(&self) -> bool {
        let pieces = self.pieces.load(Ordering::Relaxed) + 1;
        if pieces < STEP {
            self.pieces.store(pieces, Ordering::Relaxed);
            return false;
        }
        self.pieces.store(0, Ordering::Relaxed);
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
        let mut pieces = 0;
        while gauge.is_open() {
            markers += u32::from(gauge.takes());
            pieces += 1;
        }
        assert_eq!((pieces, markers), (512, 2));
        gauge.reached();
        assert!(gauge.is_open());
    }
}
