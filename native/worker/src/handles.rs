//! The driver's objects behind the handles that the client made.
//!
//! The client names an object before it exists. When its creation fails the handle is *poisoned*: whoever
//! uses it later gets the error of the creation. A handle that was destroyed answers `INVALID_HANDLE`: two threads
//! of a program may race. One of another kind can only come from a broken or hostile client, and ends the connection.

use cuda_abi::CUresult;
use rustc_hash::FxHashMap;
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
enum State {
    Object(u64),
    Poisoned(CUresult),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    /// Index of the context that it goes with; 0 for none.
    context: u32,
}

/// All handles of the client, of every kind: the kind is part of a handle's number.
#[derive(Debug, Default)]
pub struct Handles {
    entries: FxHashMap<u64, Entry>,
    /// What goes with an object: functions with their module, kernels and modules with their library.
    parts: FxHashMap<u64, Vec<u64>>,
    /// Index of the context that objects are being made in.
    context: u32,
    /// How many removals there have been.
    removals: u64,
}

impl Handles {
    /// The driver's object behind `handle`, as the number that its pointer is.
    pub fn get<H: Handle>(&self, call: CallId, handle: H) -> Result<u64, HandleError> {
        match self.entries.get(&handle.raw()).map(|entry| entry.state) {
            Some(State::Object(raw)) if handle.has_kind() => Ok(raw),
            Some(State::Poisoned(code)) if handle.has_kind() => Err(HandleError::Poisoned(code)),
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
        match self.entries.get(&handle.raw()).map(|entry| entry.state) {
            None | Some(State::Poisoned(_)) => Ok(()),
            Some(State::Object(_)) => {
                Err(WireError::HandleTaken { call, kind: H::KIND.cuda_name(), id: handle.raw() })
            }
        }
    }

    /// Objects are made in the context with this index from here on; 0 for none.
    pub fn enter_context(&mut self, index: u32) {
        self.context = index;
    }

    /// Changes whenever a handle was removed: what was found before must be looked up again.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Puts the driver's object behind `handle`, or the error of its creation.
    pub fn put<H: Handle>(&mut self, handle: H, created: Result<u64, CUresult>) {
        let state = match created {
            Ok(raw) => State::Object(raw),
            Err(code) => State::Poisoned(code),
        };
        let context = if goes_with_context(H::KIND) { self.context } else { 0 };
        self.entries.insert(handle.raw(), Entry { state, context });
    }

    /// Index of the context that `handle` goes with; 0 for none.
    pub fn context_of<H: Handle>(&self, handle: H) -> u32 {
        self.entries.get(&handle.raw()).map_or(0, |entry| entry.context)
    }

    /// The handles of one kind that go with the context `index`, and the driver's objects behind them.
    pub fn of_context<H: Handle>(&self, index: u32) -> Vec<(H, u64)> {
        let found = self.entries.iter().filter_map(|(handle, entry)| match entry.state {
            State::Object(raw) if entry.context == index => Some((H::from_raw(*handle), raw)),
            _ => None,
        });
        found.filter(|(handle, _)| handle.has_kind()).collect()
    }

    /// Like [`Handles::put`] for an object that goes with `whole`.
    pub fn put_part<H: Handle, W: Handle>(&mut self, handle: H, whole: W, created: Result<u64, CUresult>) {
        self.put(handle, created);
        self.parts.entry(whole.raw()).or_default().push(handle.raw());
    }

    /// Forgets `handle` and what goes with it: its object was destroyed.
    pub fn remove<H: Handle>(&mut self, handle: H) {
        self.remove_raw(handle.raw());
    }

    /// Forgets everything that went with the context `index`.
    pub fn forget_context(&mut self, index: u32) {
        let gone: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.context == index)
            .map(|(handle, _)| *handle)
            .collect();
        for handle in gone {
            self.remove_raw(handle);
        }
        let entries = &self.entries;
        self.parts.retain(|_, parts| {
            parts.retain(|part| entries.contains_key(part));
            !parts.is_empty()
        });
    }

    fn remove_raw(&mut self, handle: u64) {
        self.removals += 1;
        self.entries.remove(&handle);
        for part in self.parts.remove(&handle).unwrap_or_default() {
            self.remove_raw(part);
        }
    }
}

/// Objects that CUDA destroys with their context; the others outlive it.
fn goes_with_context(kind: Kind) -> bool {
    matches!(kind, Kind::Stream | Kind::Event | Kind::Module | Kind::Function | Kind::Array)
}

fn unknown(call: CallId, kind: Kind, id: u64) -> WireError {
    WireError::UnknownHandle { call, kind: kind.cuda_name(), id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::handle::{Context, Event, Function, Kernel, Library, Module, Stream};

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

    #[test]
    fn what_went_with_a_context_is_forgotten_and_nothing_else() {
        let mut handles = Handles::default();
        let (context, library, kernel) =
            (Context::from_index(1), Library::from_index(2), Kernel::from_index(3));
        handles.put(context, Ok(1));
        handles.enter_context(1);
        handles.put(library, Ok(2));
        handles.put_part(kernel, library, Ok(3));
        handles.put_part(Function::from_index(4), kernel, Ok(4));
        handles.put(Stream::from_index(5), Ok(5));
        handles.put(Event::from_index(6), Err(CUresult::OUT_OF_MEMORY));
        handles.enter_context(7);
        handles.put(Stream::from_index(8), Ok(8));
        assert_eq!(handles.of_context(1), [(Stream::from_index(5), 5)]);
        assert_eq!(handles.of_context::<Event>(1), [], "it was never made");
        handles.forget_context(1);
        let mut left: Vec<u64> = handles.entries.keys().copied().collect();
        left.sort_unstable();
        let mut expected = vec![context.raw(), library.raw(), kernel.raw(), Stream::from_index(8).raw()];
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert_eq!(handles.parts.len(), 1, "the kernel has no function any more");
    }

    #[test]
    fn parts_go_with_their_whole() {
        let mut handles = Handles::default();
        let (library, kernel) = (Library::from_index(1), Kernel::from_index(2));
        handles.put(library, Ok(1));
        handles.put_part(kernel, library, Ok(2));
        handles.put_part(Function::from_index(3), kernel, Ok(3));
        handles.put_part(Module::from_index(4), library, Ok(4));
        handles.put_part(Function::from_index(5), Module::from_index(4), Ok(5));
        handles.remove(library);
        assert!(handles.entries.is_empty() && handles.parts.is_empty());
    }
}
