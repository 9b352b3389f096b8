//! The boundary: every exported function runs its body through [`enter`] or [`guard`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use cuda_abi::CUresult;

use crate::client::Client;
use crate::found::Found;
use crate::{callback, coverage, state, statistics};

/// What the body of an exported function answers; `Err` carries the code.
pub type Answer<T = ()> = Result<T, CUresult>;

/// Runs the body of a call that needs `cuInit`: no panic leaves, and the sticky error of this process, if
/// there is one, is the answer.
pub fn enter(name: &'static str, body: impl FnOnce(&'static Client) -> Answer) -> CUresult {
    guard(name, |()| {
        let client = state::client()?;
        if callback::is_running() {
            return Err(CUresult::NOT_PERMITTED);
        }
        client.check()?;
        body(client)
    })
}

/// Like [`enter`] for a call that belongs to no context: the sticky error of the current one is not its answer.
pub fn enter_beside(name: &'static str, body: impl FnOnce(&'static Client) -> Answer) -> CUresult {
    guard(name, |()| {
        let client = state::client()?;
        if callback::is_running() {
            return Err(CUresult::NOT_PERMITTED);
        }
        client.check_connection()?;
        body(client)
    })
}

/// Like [`enter`] for a call that the client answers by itself; it is counted as such.
pub fn enter_local(name: &'static str, body: impl FnOnce(&'static Client) -> Answer) -> CUresult {
    guard(name, |()| {
        let client = state::client()?;
        client.count_local();
        body(client)
    })
}

/// Runs the body of a call that needs `cuInit` and no GPU: it takes none from a client service.
pub fn enter_found(name: &'static str, body: impl FnOnce(&'static Found) -> Answer) -> CUresult {
    guard(name, |()| {
        let found = state::found()?;
        if let Some(client) = state::client_if_any() {
            client.count_local();
        }
        body(found)
    })
}

/// Runs the body of a call that works before `cuInit`.
pub fn guard(name: &'static str, body: impl FnOnce(()) -> Answer) -> CUresult {
    coverage::note(name);
    statistics::note(name);
    match catch_unwind(AssertUnwindSafe(|| body(()))) {
        Ok(Ok(())) => CUresult::SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => {
            crate::report::once(&format!("{name} failed inside Farpool; this is a bug, please report it"));
            CUresult::UNKNOWN
        }
    }
}
