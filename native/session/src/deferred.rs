//! What stands at the head of every reply: the call's own result and, if there is one, the error of an
//! earlier call that nobody waited for.

use std::collections::VecDeque;

use wire::record::flags;
use wire::{CallId, Reader, Writer};

/// The error of an earlier one-way call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeferredError {
    /// The call that failed.
    pub call: CallId,
    /// Index of the context that it was made in; 0 for none.
    pub context: u32,
    /// Its `CUresult`.
    pub code: i32,
}

/// Failed one-way calls that nobody was told of: the first of each context.
#[derive(Debug, Default)]
pub struct DeferredErrors {
    waiting: VecDeque<DeferredError>,
}

impl DeferredErrors {
    /// Notes a failed call. Of its context only the first is kept: later ones mostly follow from it.
    pub fn note(&mut self, error: DeferredError) {
        if self.waiting.iter().all(|other| other.context != error.context) {
            self.waiting.push_back(error);
        }
    }

    /// The error that goes with an answer to the context with this index: its own first, or one of no context, as this very
    /// call tells the program of it. Any other one only gets to the client a little earlier.
    pub fn take(&mut self, context: u32) -> Option<DeferredError> {
        let of = |index: u32| self.waiting.iter().position(|error| error.context == index);
        self.waiting.remove(of(context).or_else(|| of(0)).unwrap_or(0))
    }

    /// Forgets the error of a context that was destroyed.
    pub fn context_gone(&mut self, context: u32) {
        self.waiting.retain(|error| error.context != context);
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
    /// No head is longer than this.
    pub const MOST_BYTES: usize = 14;

    /// Header flags of a reply with this head.
    pub fn flags(&self) -> u16 {
        flags::IS_REPLY | if self.deferred.is_some() { flags::DEFERRED_ERROR } else { 0 }
    }

    /// Appends the head.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_i32(self.result);
        if let Some(deferred) = self.deferred {
            writer.put_u16(deferred.call.0);
            writer.put_u32(deferred.context);
            writer.put_i32(deferred.code);
        }
    }

    /// Bytes of the head of a reply whose header has `header_flags`.
    pub fn encoded_bytes(header_flags: u16) -> usize {
        if header_flags & flags::DEFERRED_ERROR == 0 { 4 } else { Self::MOST_BYTES }
    }

    /// Takes the head of a reply whose header has `header_flags`.
    pub fn decode(header_flags: u16, reader: &mut Reader<'_>) -> Self {
        let result = reader.take_i32();
        let deferred = (header_flags & flags::DEFERRED_ERROR != 0).then(|| DeferredError {
            call: CallId(reader.take_u16()),
            context: reader.take_u32(),
            code: reader.take_i32(),
        });
        ReplyHead { result, deferred }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(call: u16, context: u32, code: i32) -> DeferredError {
        DeferredError { call: CallId(call), context, code }
    }

    #[test]
    fn only_the_first_deferred_error_of_a_context_is_kept_and_only_once_told() {
        let mut errors = DeferredErrors::default();
        errors.note(error(20, 1, 1));
        errors.note(error(21, 1, 2));
        errors.note(error(22, 7, 3));
        assert_eq!(errors.take(0), Some(error(20, 1, 1)));
        assert_eq!(errors.take(0), Some(error(22, 7, 3)));
        assert_eq!(errors.take(0), None);
    }

    #[test]
    fn a_call_is_told_the_error_of_its_own_context_first() {
        let mut errors = DeferredErrors::default();
        errors.note(error(20, 1, 1));
        errors.note(error(22, 7, 3));
        assert_eq!(errors.take(7), Some(error(22, 7, 3)));
        assert_eq!(errors.take(7), Some(error(20, 1, 1)), "another one's, if it has none");
    }

    #[test]
    fn the_error_of_a_destroyed_context_is_not_told() {
        let mut errors = DeferredErrors::default();
        errors.note(error(20, 1, 1));
        errors.note(error(22, 7, 3));
        errors.context_gone(1);
        assert_eq!(errors.take(0), Some(error(22, 7, 3)));
        assert_eq!(errors.take(0), None);
    }

    #[test]
    fn heads_round_trip_with_and_without_a_deferred_error() {
        for head in [
            ReplyHead { result: 0, deferred: None },
            ReplyHead { result: 2, deferred: Some(error(33, 5, 700)) },
        ] {
            let mut bytes = Vec::new();
            head.encode(&mut Writer::new(&mut bytes));
            assert_eq!(bytes.len(), ReplyHead::encoded_bytes(head.flags()));
            assert_eq!(ReplyHead::decode(head.flags(), &mut Reader::new(&bytes)), head);
        }
    }
}
