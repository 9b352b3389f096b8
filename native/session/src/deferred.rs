//! What stands at the head of every reply: the call's own result and, if there is one, the error of an
//! earlier call that nobody waited for.

use wire::record::flags;
use wire::{CallId, Reader, Writer};

/// The error of an earlier one-way call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeferredError {
    /// The call that failed.
    pub call: CallId,
    /// Its `CUresult`.
    pub code: i32,
}

/// The worker's memory of failed one-way calls: the first since the last reply.
#[derive(Debug, Default)]
pub struct DeferredErrors {
    first: Option<DeferredError>,
}

impl DeferredErrors {
    /// Notes that a one-way `call` failed with `code`. Only the first is kept: later ones mostly follow from it.
    pub fn note(&mut self, call: CallId, code: i32) {
        self.first.get_or_insert(DeferredError { call, code });
    }

    /// The error that the reply about to be sent carries.
    pub fn take(&mut self) -> Option<DeferredError> {
        self.first.take()
    }
}

/// The head of a reply's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHead {
    /// `CUresult` of the call that is answered.
    pub result: i32,
    /// Error of an earlier one-way call.
    pub deferred: Option<DeferredError>,
}

impl ReplyHead {
    /// Header flags of a reply with this head.
    pub fn flags(&self) -> u16 {
        flags::IS_REPLY | if self.deferred.is_some() { flags::DEFERRED_ERROR } else { 0 }
    }

    /// Appends the head.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_i32(self.result);
        if let Some(deferred) = self.deferred {
            writer.put_u16(deferred.call.0);
            writer.put_i32(deferred.code);
        }
    }

    /// Bytes of the head of a reply whose header has `header_flags`.
    pub fn encoded_bytes(header_flags: u16) -> usize {
        if header_flags & flags::DEFERRED_ERROR == 0 { 4 } else { 10 }
    }

    /// Takes the head of a reply whose header has `header_flags`.
    pub fn decode(header_flags: u16, reader: &mut Reader<'_>) -> Self {
        let result = reader.take_i32();
        let deferred = (header_flags & flags::DEFERRED_ERROR != 0)
            .then(|| DeferredError { call: CallId(reader.take_u16()), code: reader.take_i32() });
        ReplyHead { result, deferred }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_deferred_error_is_kept_and_only_once_told() {
        let mut errors = DeferredErrors::default();
        errors.note(CallId(20), 1);
        errors.note(CallId(21), 2);
        assert_eq!(errors.take(), Some(DeferredError { call: CallId(20), code: 1 }));
        assert_eq!(errors.take(), None);
    }

    #[test]
    fn heads_round_trip_with_and_without_a_deferred_error() {
        for head in [
            ReplyHead { result: 0, deferred: None },
            ReplyHead { result: 2, deferred: Some(DeferredError { call: CallId(33), code: 700 }) },
        ] {
            let mut bytes = Vec::new();
            head.encode(&mut Writer::new(&mut bytes));
            assert_eq!(bytes.len(), ReplyHead::encoded_bytes(head.flags()));
            assert_eq!(ReplyHead::decode(head.flags(), &mut Reader::new(&bytes)), head);
        }
    }
}
