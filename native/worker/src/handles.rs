//! The driver's objects behind the handles that the client made.
//!
//! The client names an object before it exists. When its creation fails the handle is *poisoned*: whoever
//! uses it later gets the error of the creation. A handle that was destroyed answers `INVALID_HANDLE`: two threads
//! of a program may race. One of another kind can only come from a broken or hostile client, and ends the connection.

use std::collections::HashMap;

use cuda_abi::CUresult;
use wire::handle::{Handle, Kind};
use wire::{CallId, WireError};

/// Why a handle stands for no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandleError {
    /// The client must not have sent it.
    Wire(WireError),
    /// Its creation failed with this code.
    Poisoned(CUresult),
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Object(u64),
    Poisoned(CUresult),
}

/// All handles of the client, of every kind: the kind is part of a handle's number.
#[derive(Debug, Default)]
pub struct Handles {
    entries: HashMap<u64, Entry>,
}

impl Handles {
    /// The driver's object behind `handle`, as the number that its pointer is.
    pub fn get<H: Handle>(&self, call: CallId, handle: H) -> Result<u64, HandleError> {
        match self.entries.get(&handle.raw()) {
            Some(Entry::Object(raw)) if handle.has_kind() => Ok(*raw),
            Some(Entry::Poisoned(code)) if handle.has_kind() => Err(HandleError::Poisoned(*code)),
            // Two threads of a program: one destroyed what the other was about to use.
            None if handle.has_kind() => Err(HandleError::Poisoned(CUresult::INVALID_HANDLE)),
            _ => Err(HandleError::Wire(unknown(call, H::KIND, handle.raw()))),
        }
    }

    /// Checks that `handle` may be given to a new object.
    pub fn check_free<H: Handle>(&self, call: CallId, handle: H) -> Result<(), WireError> {
        if !handle.has_kind() {
            return Err(unknown(call, H::KIND, handle.raw()));
        }
        match self.entries.get(&handle.raw()) {
            None | Some(Entry::Poisoned(_)) => Ok(()),
            Some(Entry::Object(_)) => {
                Err(WireError::HandleTaken { call, kind: H::KIND.cuda_name(), id: handle.raw() })
            }
        }
    }

    /// Puts the driver's object behind `handle`, or the error of its creation.
    pub fn put<H: Handle>(&mut self, handle: H, created: Result<u64, CUresult>) {
        let entry = match created {
            Ok(raw) => Entry::Object(raw),
            Err(code) => Entry::Poisoned(code),
        };
        self.entries.insert(handle.raw(), entry);
    }

    /// Forgets `handle`: its object was destroyed.
    pub fn remove<H: Handle>(&mut self, handle: H) {
        self.entries.remove(&handle.raw());
    }
}

fn unknown(call: CallId, kind: Kind, id: u64) -> WireError {
    WireError::UnknownHandle { call, kind: kind.cuda_name(), id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::handle::{Event, Stream};

    const CALL: CallId = CallId(99);

    #[test]
    fn a_handle_of_another_kind_is_refused_even_when_the_number_exists() {
        let mut handles = Handles::default();
        let stream = Stream::from_index(1);
        handles.put(stream, Ok(0xabc));
        assert_eq!(handles.get(CALL, stream), Ok(0xabc));
        assert!(matches!(
            handles.get(CALL, Event::from_raw(stream.raw())),
            Err(HandleError::Wire(WireError::UnknownHandle { kind: "CUevent", .. }))
        ));
    }

    #[test]
    fn a_failed_creation_answers_its_code_until_the_handle_is_used_again() {
        let mut handles = Handles::default();
        let stream = Stream::from_index(1);
        handles.put(stream, Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(handles.get(CALL, stream), Err(HandleError::Poisoned(CUresult::OUT_OF_MEMORY)));
        assert_eq!(handles.check_free(CALL, stream), Ok(()));
        handles.put(stream, Ok(1));
        assert!(matches!(handles.check_free(CALL, stream), Err(WireError::HandleTaken { .. })));
        handles.remove(stream);
        assert_eq!(handles.get(CALL, stream), Err(HandleError::Poisoned(CUresult::INVALID_HANDLE)));
    }
}
