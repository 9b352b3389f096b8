//! The worker's half: requests come in order, without gaps.

use wire::record::flags;
use wire::{CallId, Header, WireError};

/// Checks the numbering of requests.
#[derive(Debug)]
pub struct RequestOrder {
    expected: u64,
}

impl Default for RequestOrder {
    fn default() -> Self {
        Self { expected: 1 }
    }
}

impl RequestOrder {
    /// Admits the next request. The first must be [`CallId::HELLO`], and only the first may.
    pub fn admit(&mut self, header: &Header) -> Result<(), WireError> {
        if header.flags & (flags::IS_REPLY | flags::DEFERRED_ERROR | flags::NOTICE) != 0 {
            return Err(WireError::Unexpected { call: header.call, reason: "a worker only gets requests" });
        }
        if header.sequence != self.expected {
            return Err(WireError::Sequence {
                call: header.call,
                given: header.sequence,
                expected: self.expected,
            });
        }
        if (self.expected == 1) != (header.call == CallId::HELLO) {
            return Err(WireError::Unexpected { call: header.call, reason: "hello comes first, and once" });
        }
        self.expected += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(call: CallId, sequence: u64) -> Header {
        Header { length: 0, call, flags: 0, context: 0, sequence }
    }

    #[test]
    fn gaps_repeats_and_replies_are_refused() {
        let mut order = RequestOrder::default();
        assert!(order.admit(&request(CallId(20), 1)).is_err(), "a call before hello");
        assert_eq!(order.admit(&request(CallId::HELLO, 1)), Ok(()));
        assert_eq!(order.admit(&request(CallId(20), 2)), Ok(()));
        assert!(order.admit(&request(CallId(20), 2)).is_err(), "a repeat");
        assert!(order.admit(&request(CallId(20), 4)).is_err(), "a gap");
        assert!(order.admit(&request(CallId::HELLO, 3)).is_err(), "a second hello");
        assert!(order.admit(&Header { flags: flags::IS_REPLY, ..request(CallId(20), 3) }).is_err());
    }
}
