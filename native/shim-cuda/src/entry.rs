//! The boundary: every exported function runs its body through [`enter`] or [`guard`]. `named` is asked for the server that
//! the call is for, where there are several.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cuda_abi::CUresult;

use crate::client::Client;
use crate::found::Found;
use crate::servers::Named;
use crate::{callback, coverage, servers, state, statistics};

/// What the body of an exported function answers; `Err` carries the code.
pub type Answer<T = ()> = Result<T, CUresult>;

/// Runs the body of a call that needs `cuInit`: no panic leaves, and the sticky error of this process, if
/// there is one, is the answer.
#[inline]
pub fn enter(
    name: &'static str,
    named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    enter_unless(name, named, || None, body)
}

/// Like [`enter`] for a call that may lead from one server to another: `elsewhere` makes it then, and answers.
#[inline]
pub fn enter_unless(
    name: &'static str,
    named: impl FnOnce() -> Named,
    elsewhere: impl FnOnce() -> Option<Answer>,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    answer(name, || {
        if callback::is_running() {
            return Err(CUresult::NOT_PERMITTED);
        }
        if let Some(answer) = elsewhere() {
            return answer;
        }
        state::turn(name, named)?.take(|client| {
            client.check()?;
            body(client)
        })
    })
}

/// Like [`enter`] for a call that is made where the thread's current context is, whatever it names.
pub fn enter_here(
    name: &'static str,
    _named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    enter(name, servers::none, body)
}

/// Like [`enter`] for a call that belongs to no context: the sticky error of the current one is not its answer.
pub fn enter_beside(
    name: &'static str,
    named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    answer(name, || {
        let turn = state::turn(name, named)?;
        if callback::is_running() {
            return Err(CUresult::NOT_PERMITTED);
        }
        turn.take(|client| {
            client.check_connection()?;
            body(client)
        })
    })
}

/// Like [`enter`] for a call that the client answers by itself; it is counted as such.
pub fn enter_local(
    name: &'static str,
    named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    answer(name, || {
        state::turn(name, named)?.take(|client| {
            client.count_local();
            body(client)
        })
    })
}

/// Like [`enter_local`] for a call that changes which context is current: it gets its client, and the stack as it is.
pub fn enter_stack(
    name: &'static str,
    named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Client) -> Answer,
) -> CUresult {
    answer(name, || {
        let client = state::turn(name, named)?.client;
        client.count_local();
        body(client)
    })
}

/// Runs the body of a call that needs `cuInit` and no GPU: it takes none from a client service.
pub fn enter_found(
    name: &'static str,
    _named: impl FnOnce() -> Named,
    body: impl FnOnce(&'static Found) -> Answer,
) -> CUresult {
    answer(name, || {
        let found = state::found()?;
        if let Some(client) = state::client_if_any() {
            client.count_local();
        }
        body(found)
    })
}

/// Runs the body of a call that works before `cuInit`.
pub fn guard(
    name: &'static str,
    _named: impl FnOnce() -> Named,
    body: impl FnOnce(()) -> Answer,
) -> CUresult {
    answer(name, || body(()))
}

#[inline]
fn answer(name: &'static str, body: impl FnOnce() -> Answer) -> CUresult {
    coverage::note(name);
    statistics::note(name);
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CUresult::SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => {
            crate::report::once(&format!("{name} failed inside Farpool; this is a bug, please report it"));
            CUresult::UNKNOWN
        }
    }
}
