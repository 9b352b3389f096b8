//! How much each stream has before it, without asking the driver for every launch.
//!
//! A real driver blocks its caller at about 1,000 unfinished launches of one stream, which here would stop all
//! streams of the client. So a marker is put behind every 256 launches, and a stream with two markers before it
//! takes no more launches until one is reached.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Launches from marker to marker.
const STEP: u32 = 256;

/// Markers that may be unreached.
const MARKERS: u32 = 2;

#[derive(Debug, Default)]
struct Stream {
    launches: u32,
    markers: Arc<AtomicU32>,
}

/// The gauges of all streams, by context and stream.
#[derive(Debug, Default)]
pub struct Gauges {
    streams: HashMap<(u32, usize), Stream>,
}

impl Gauges {
    /// Whether the stream takes a launch now.
    pub fn is_open(&self, context: u32, stream: usize) -> bool {
        self.streams
            .get(&(context, stream))
            .is_none_or(|stream| stream.markers.load(Ordering::Acquire) < MARKERS)
    }

    /// Counts a launch. Answers the counter of a marker that must be put behind it now, if one must.
    pub fn launched(&mut self, context: u32, stream: usize) -> Option<Arc<AtomicU32>> {
        let stream = self.streams.entry((context, stream)).or_default();
        stream.launches += 1;
        if stream.launches < STEP {
            return None;
        }
        stream.launches = 0;
        stream.markers.fetch_add(1, Ordering::AcqRel);
        Some(Arc::clone(&stream.markers))
    }

    /// Forgets a stream that is being destroyed.
    pub fn forget_stream(&mut self, context: u32, stream: usize) {
        self.streams.remove(&(context, stream));
    }

    /// Forgets the streams of a context that is being destroyed.
    pub fn forget_context(&mut self, context: u32) {
        self.streams.retain(|(owner, _), _| *owner != context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_closes_after_two_markers_and_opens_when_one_is_reached() {
        let mut gauges = Gauges::default();
        let mut markers = Vec::new();
        let mut launches = 0;
        while gauges.is_open(1, 5) {
            markers.extend(gauges.launched(1, 5));
            launches += 1;
        }
        assert_eq!((launches, markers.len()), (512, 2));
        assert!(gauges.is_open(1, 6), "another stream");
        markers[0].fetch_sub(1, Ordering::AcqRel);
        assert!(gauges.is_open(1, 5));
    }
}
