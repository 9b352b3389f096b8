//! What is tried with each call's request and reply.

use wire::CallId;
use wire::code_table::CodeTable;
use wire::handshake::{Goodbye, Hello, Refused};
use wire::notice::{Callback, Fence, Finished, Output};
use wire::{Reader, Reply as _, Request, Writer};

/// `Some` for what was accepted and is stable; an error for a finding.
pub type Outcome = Result<Option<()>, String>;

/// A call, and what tries bytes as its request and as its reply.
pub struct Call {
    pub id: u16,
    pub request: fn(&[u8]) -> Outcome,
    pub reply: fn(&[u8]) -> Outcome,
}

/// Bytes of memory that reading may take for each byte that is read: an entry of a code table has 9 on the wire and 80 in
/// memory.
const MEMORY_PER_BYTE: usize = 16;

/// And for nothing.
const MEMORY: usize = 1 << 10;

/// Whether reading `bytes` took more memory than it may.
pub fn check_memory(bytes: &[u8], peak: usize) -> Result<(), String> {
    let most = MEMORY + MEMORY_PER_BYTE * bytes.len();
    if peak > most {
        return Err(format!("{} bytes took {peak} bytes of memory, {most} at most expected", bytes.len()));
    }
    Ok(())
}

/// Reads `$bytes` as `$type`; what is accepted is written, read, and written again, and must be the same then.
#[macro_export]
macro_rules! tried {
    ($type:ty, $bytes:expr) => {{
        $crate::meter::begin();
        let mut reader = Reader::new($bytes);
        let value = <$type>::decode(&mut reader);
        $crate::call::check_memory($bytes, $crate::meter::peak())?;
        if reader.finish(CallId(0)).is_err() {
            return Ok(None);
        }
        let mut written = Vec::new();
        value.encode(&mut Writer::new(&mut written));
        let mut reader = Reader::new(&written);
        let again = <$type>::decode(&mut reader);
        reader.finish(CallId(0)).map_err(|error| format!("it is refused when written again: {error}"))?;
        let mut twice = Vec::new();
        again.encode(&mut Writer::new(&mut twice));
        if written == twice { Ok(Some(())) } else { Err("it is read otherwise when written again".into()) }
    }};
}

macro_rules! call {
    ($($type:tt)*) => {
        Call {
            id: <$($type)* as wire::Request<'_>>::CALL.0,
            request: |bytes| {
                use wire::{CallId, Reader, Request, Writer};
                $crate::tried!($($type)*, bytes)
            },
            reply: |bytes| {
                use wire::{CallId, Reader, Reply, Writer};
                $crate::tried!(<$($type)* as wire::Request<'_>>::Reply, bytes)
            },
        }
    };
}

macro_rules! plain {
    ($id:expr, $type:ty) => {
        Call { id: $id.0, request: |bytes| tried!($type, bytes), reply: |bytes| tried!($type, bytes) }
    };
}

/// The protocol's own.
pub const OTHERS: &[Call] = &[
    Call {
        id: CallId::HELLO.0,
        request: |bytes| tried!(Hello, bytes),
        reply: |bytes| tried!(<Hello as Request<'_>>::Reply, bytes),
    },
    Call { id: CallId::GOODBYE.0, request: |bytes| tried!(Goodbye, bytes), reply: |bytes| tried!((), bytes) },
    plain!(CallId::REFUSED, Refused),
    plain!(CallId::CALLBACK, Callback),
    plain!(CallId::OUTPUT, Output),
    plain!(CallId::FENCE, Fence),
    plain!(CallId::FINISHED, Finished),
    // Part of the replies to loads.
    plain!(CallId(0), CodeTable),
];
