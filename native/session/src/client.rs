//! The client's half: numbers for requests, and who waits for which reply.

use std::collections::HashMap;

use wire::codec::Writer;
use wire::record::{encode_record, flags};
use wire::{CallId, Header, Request, WireError};

/// Numbers and encodes requests.
#[derive(Debug)]
pub struct Requests {
    next: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self { next: 1 }
    }
}

impl Requests {
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Appends the record of `request` to `buffer` and returns its number.
    pub fn encode<'a, R: Request<'a>>(
        &mut self,
        buffer: &mut Vec<u8>,
        request: &R,
        wants_reply: bool,
        context: u32,
    ) -> u64 {
        self.encode_with(buffer, R::CALL, wants_reply, context, |writer| request.encode(writer))
    }

    /// Like [`Requests::encode`] for a reply that nobody waits for.
    pub fn encode_detached<'a, R: Request<'a>>(
        &mut self,
        buffer: &mut Vec<u8>,
        request: &R,
        context: u32,
    ) -> u64 {
        let sequence = self.number();
        let flags = flags::WANTS_REPLY | flags::DETACHED;
        encode_record(buffer, R::CALL, flags, context, sequence, |writer| request.encode(writer));
        sequence
    }

    /// Like [`Requests::encode`] for a payload written by `body`.
    pub fn encode_with(
        &mut self,
        buffer: &mut Vec<u8>,
        call: CallId,
        wants_reply: bool,
        context: u32,
        body: impl FnOnce(&mut Writer<'_>),
    ) -> u64 {
        let sequence = self.number();
        let flags = if wants_reply { flags::WANTS_REPLY } else { 0 };
        encode_record(buffer, call, flags, context, sequence, body);
        sequence
    }

    /// Appends the first half of a record whose data, `data_bytes`, come on the bulk lane; `head` writes what is before them.
    pub fn encode_bulk(
        &mut self,
        buffer: &mut Vec<u8>,
        call: CallId,
        wants_reply: bool,
        context: u32,
        head: impl FnOnce(&mut Writer<'_>),
        data_bytes: u64,
    ) -> u64 {
        let sequence = self.number();
        let flags = flags::BULK | if wants_reply { flags::WANTS_REPLY } else { 0 };
        encode_record(buffer, call, flags, context, sequence, |writer| {
            head(writer);
            writer.put_u64(data_bytes);
        });
        sequence
    }

    /// The number given last.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Appends the header of a record whose payload, `length` bytes, is sent by other means right after it.
    pub fn encode_header(
        &mut self,
        buffer: &mut Vec<u8>,
        call: CallId,
        wants_reply: bool,
        context: u32,
        length: u32,
    ) -> u64 {
        let sequence = self.number();
        let flags = if wants_reply { flags::WANTS_REPLY } else { 0 };
        Header { length, call, flags, context, sequence }.encode(&mut Writer::new(buffer));
        sequence
    }
}

/// What became of a call that somebody waits for.
#[derive(Debug)]
pub enum Completion<T> {
    /// The reply is not there yet.
    Waiting,
    /// The reply is there.
    Ready(T),
}

#[derive(Debug)]
struct Pending<D, T> {
    call: CallId,
    destination: Option<D>,
    reply: Option<T>,
    /// Nobody waits: index of the context that the call was made in.
    detached_in: Option<u32>,
}

/// The reply to a call that nobody waited for.
#[derive(Debug, PartialEq, Eq)]
pub struct DetachedReply<T> {
    /// The call.
    pub call: CallId,
    /// Index of the context that it was made in.
    pub context: u32,
    /// The reply.
    pub reply: T,
}

/// The calls that wait for a reply. `D` is where the caller wants the reply's data, `T` what a reply becomes.
#[derive(Debug)]
pub struct PendingCalls<D, T> {
    calls: HashMap<u64, Pending<D, T>>,
}

impl<D, T> Default for PendingCalls<D, T> {
    fn default() -> Self {
        Self { calls: HashMap::new() }
    }
}

impl<D, T> PendingCalls<D, T> {
    /// Notes that the record `sequence` of `call` is waited for.
    pub fn expect(&mut self, sequence: u64, call: CallId, destination: Option<D>) {
        self.calls.insert(sequence, Pending { call, destination, reply: None, detached_in: None });
    }

    /// Notes that the reply to record `sequence` of `call`, made in `context`, is wanted for its data only: nobody waits
    /// for it.
    pub fn expect_detached(&mut self, sequence: u64, call: CallId, context: u32, destination: D) {
        let destination = Some(destination);
        self.calls.insert(sequence, Pending { call, destination, reply: None, detached_in: Some(context) });
    }

    /// Checks the header of a reply and hands out where its data goes. A reply that nobody waits for, or of
    /// another call, is an error of the wire.
    pub fn accept(&mut self, header: &Header) -> Result<Option<D>, WireError> {
        self.check(header)?;
        Ok(self.calls.get_mut(&header.sequence).and_then(|pending| pending.destination.take()))
    }

    /// Checks the header of a reply whose data come on the bulk lane.
    pub fn check(&self, header: &Header) -> Result<(), WireError> {
        if header.flags & flags::IS_REPLY == 0 {
            return Err(WireError::Unexpected { call: header.call, reason: "a client only gets replies" });
        }
        match self.calls.get(&header.sequence) {
            Some(pending) if pending.call == header.call && pending.reply.is_none() => Ok(()),
            _ => Err(WireError::Unexpected { call: header.call, reason: "nobody waits for this reply" }),
        }
    }

    /// Hands out where data from the bulk lane go; a reply of their own completes the call.
    pub fn accept_data(&mut self, sequence: u64) -> Result<Option<D>, WireError> {
        match self.calls.get_mut(&sequence) {
            Some(pending) if pending.reply.is_none() => Ok(pending.destination.take()),
            _ => Err(WireError::Unexpected {
                call: CallId::BULK_READY,
                reason: "nobody waits for this frame's data",
            }),
        }
    }

    /// Whether nobody waits for the reply to record `sequence`.
    pub fn is_detached(&self, sequence: u64) -> bool {
        self.calls.get(&sequence).is_some_and(|pending| pending.detached_in.is_some())
    }

    /// Stores an accepted reply for its caller; a detached one comes straight back.
    pub fn complete(&mut self, sequence: u64, reply: T) -> Option<DetachedReply<T>> {
        let pending = self.calls.get_mut(&sequence)?;
        if let Some(context) = pending.detached_in {
            let call = pending.call;
            self.calls.remove(&sequence);
            return Some(DetachedReply { call, context, reply });
        }
        pending.reply = Some(reply);
        None
    }

    /// Takes the reply to the record `sequence`, if it is there.
    pub fn take(&mut self, sequence: u64) -> Completion<T> {
        match self.calls.get(&sequence) {
            Some(pending) if pending.reply.is_some() => {}
            _ => return Completion::Waiting,
        }
        match self.calls.remove(&sequence).and_then(|pending| pending.reply) {
            Some(reply) => Completion::Ready(reply),
            None => Completion::Waiting,
        }
    }

    /// Forgets a call whose caller gave up.
    pub fn forget(&mut self, sequence: u64) {
        self.calls.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: u16, sequence: u64) -> Header {
        Header { length: 4, call: CallId(call), flags: flags::IS_REPLY, context: 0, sequence }
    }

    #[test]
    fn requests_are_numbered_from_one() {
        let mut requests = Requests::default();
        let mut buffer = Vec::new();
        assert_eq!(requests.encode_with(&mut buffer, CallId(20), true, 0, |_| {}), 1);
        assert_eq!(requests.encode_header(&mut buffer, CallId(21), false, 0, 0), 2);
    }

    #[test]
    fn a_reply_reaches_its_caller_whatever_the_order() {
        let mut calls: PendingCalls<(), &str> = PendingCalls::default();
        calls.expect(1, CallId(20), None);
        calls.expect(2, CallId(21), Some(()));
        assert_eq!(calls.accept(&reply(21, 2)), Ok(Some(())));
        assert_eq!(calls.complete(2, "second"), None);
        assert!(matches!(calls.take(1), Completion::Waiting));
        assert!(matches!(calls.take(2), Completion::Ready("second")));
        assert!(matches!(calls.take(2), Completion::Waiting));
    }

    #[test]
    fn a_detached_reply_gets_its_destination_and_leaves_nothing_behind() {
        let mut calls: PendingCalls<&str, i32> = PendingCalls::default();
        calls.expect_detached(1, CallId(20), 5, "memory");
        assert_eq!(calls.accept(&reply(20, 1)), Ok(Some("memory")));
        assert_eq!(calls.complete(1, 7), Some(DetachedReply { call: CallId(20), context: 5, reply: 7 }));
        assert!(calls.accept(&reply(20, 1)).is_err(), "a second reply");
    }

    #[test]
    fn data_of_the_bulk_lane_are_taken_once_per_awaited_call() {
        let mut calls: PendingCalls<&str, i32> = PendingCalls::default();
        calls.expect(1, CallId(20), Some("memory"));
        calls.expect_detached(2, CallId(20), 5, "pinned");
        assert!(calls.check(&reply(20, 1)).is_ok());
        assert!(calls.check(&reply(21, 1)).is_err(), "another call");
        assert!(calls.check(&reply(20, 3)).is_err(), "another number");
        assert_eq!(calls.accept_data(1), Ok(Some("memory")));
        assert!(calls.accept_data(3).is_err(), "nobody asked");
        assert_eq!((calls.is_detached(1), calls.is_detached(2)), (false, true));
        assert_eq!(calls.complete(1, 7), None);
        assert!(calls.accept_data(1).is_err(), "it is complete");
    }

    #[test]
    fn replies_that_nobody_waits_for_are_refused() {
        let mut calls: PendingCalls<(), ()> = PendingCalls::default();
        calls.expect(1, CallId(20), None);
        assert!(calls.accept(&reply(21, 1)).is_err(), "another call");
        assert!(calls.accept(&reply(20, 2)).is_err(), "another number");
        assert!(calls.accept(&Header { flags: 0, ..reply(20, 1) }).is_err(), "not a reply");
        calls.forget(1);
        assert!(calls.accept(&reply(20, 1)).is_err(), "a caller that gave up");
    }
}
