//! The servers of the session, and which of them a call is for. Mostly there is one, and nothing is looked up. With several
//! this process has a client for each (ADR 21): handles tell theirs by their number, device memory by its address, contexts by
//! their handle; code is on all of them, and what names no server is for that of the thread's current context.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuda_abi::{CUdevice, CUgraphExec, CUresult};
use wire::handle::{Context, Handle as _, Kind};

use crate::client::Client;
use crate::context;
use crate::convert::Opaque;
use crate::entry::Answer;
use crate::graph::exec::EXECS;
use crate::memory::{Range, RangeKind};

/// Servers that a process can be connected to.
pub const MOST: usize = 64;

/// How many there are: set before the first handle is made, and never changed.
static COUNT: AtomicUsize = AtomicUsize::new(1);

static CLIENTS: OnceLock<Box<[Client]>> = OnceLock::new();

/// How many servers the session has.
#[inline]
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Notes how many servers the session has, before any handle is made.
pub fn expect(count: usize) {
    COUNT.store(count, Ordering::Relaxed);
}

/// Notes the clients, one for each server; only the first time counts.
pub fn set(clients: Vec<Client>) {
    let _ = CLIENTS.set(clients.into_boxed_slice());
}

/// The clients, one for each server; none before there is a connection.
#[inline]
pub fn clients() -> &'static [Client] {
    CLIENTS.get().map_or(&[], |clients| clients)
}

/// The index of a handle that is the `number`th of a server: it tells the server.
pub fn handle_index(number: u64, server: usize) -> u64 {
    index_among(number, server, count())
}

fn index_among(number: u64, server: usize, count: usize) -> u64 {
    number * count as u64 + server as u64
}

fn server_among(index: u64, count: usize) -> usize {
    match count {
        1 => 0,
        // Below the number of servers.
        count => usize::try_from(index % count as u64).unwrap_or(0),
    }
}

fn server_of_index(index: u64) -> usize {
    server_among(index, count())
}

/// The server of the context with this index.
pub fn of_context_index(index: u32) -> usize {
    server_of_index(u64::from(index))
}

/// The server of a context.
pub fn of_context(context: Context) -> usize {
    of_context_index(context.index())
}

/// The server of a handle of this process; `None` for code, which is on all of them, and for what is no handle.
pub fn of_handle(raw: u64) -> Option<usize> {
    /// Kinds of which each object is on one server.
    const OWNED: [Kind; 6] =
        [Kind::Context, Kind::Module, Kind::Function, Kind::Stream, Kind::Event, Kind::MemoryPool];
    let is_owned = raw & 0xf == 0 && OWNED.iter().any(|kind| raw >> 40 == *kind as u64);
    is_owned.then(|| server_of_index((raw >> 4) & ((1 << 36) - 1)))
}

/// The range that holds `address`, where `accept` takes it, and the client that knows it: the current one is asked first.
fn find(address: u64, accept: impl Fn(RangeKind) -> bool) -> Option<(&'static Client, Range)> {
    let clients = clients();
    let first = current();
    let order = (0..clients.len()).map(|step| (first + step) % clients.len());
    let known = |server: usize| {
        let client = clients.get(server)?;
        let range = client.ranges.find(address).filter(|range| accept(range.kind))?;
        Some((client, range))
    };
    order.filter_map(known).next()
}

/// The client whose device memory holds `address`.
pub fn with_device_memory(address: u64) -> Option<&'static Client> {
    find(address, RangeKind::is_device).map(|(client, _)| client)
}

/// The server that knows `address`, be it device memory or pinned memory of this process.
pub fn of_address(address: u64) -> Option<usize> {
    find(address, |_| true).map(|(client, _)| client.server)
}

/// The client that knows `address`; `client` where none does.
pub fn with_address(client: &'static Client, address: u64) -> &'static Client {
    if count() == 1 { client } else { of_address(address).map_or(client, |server| other(client, server)) }
}

/// The server of the thread's current context; the first one without a context.
fn current() -> usize {
    context::current().map_or(0, of_context)
}

/// The client of the device that this program calls `device`.
///
/// Errors: `INVALID_DEVICE` for none.
pub fn with_device(client: &'static Client, device: CUdevice) -> Answer<&'static Client> {
    let server = client.devices.get(device)?.server;
    Ok(other(client, server))
}

/// The client of a handle; `client` where it is on all servers.
pub fn with_handle(client: &'static Client, raw: u64) -> &'static Client {
    if count() == 1 { client } else { of_handle(raw).map_or(client, |server| other(client, server)) }
}

/// This client, and those of all other servers.
pub fn all(client: &'static Client) -> impl Iterator<Item = &'static Client> {
    let others = clients().iter().filter(|other| other.server != client.server);
    std::iter::once(client).chain(others)
}

/// The client of this server.
pub fn other(client: &'static Client, server: usize) -> &'static Client {
    if client.server == server { client } else { clients().get(server).unwrap_or(client) }
}

/// What a call is for: a client, and whether the thread's current context is one of another server.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The client.
    pub client: &'static Client,
    is_elsewhere: bool,
}

impl Turn {
    /// What a call is for that names server `named`, if it names one.
    #[inline]
    pub fn of(clients: &'static [Client], named: impl FnOnce() -> Option<usize>) -> Answer<Turn> {
        if let [only] = clients {
            return Ok(Turn { client: only, is_elsewhere: false });
        }
        Turn::among(clients, named)
    }

    #[cold]
    fn among(clients: &'static [Client], named: impl FnOnce() -> Option<usize>) -> Answer<Turn> {
        let here = context::current().map(of_context);
        let server = named().or(here).unwrap_or(0);
        let client = clients.get(server).ok_or(CUresult::INVALID_HANDLE)?;
        Ok(Turn { client, is_elsewhere: here.is_some_and(|here| here != server) })
    }

    /// Makes the call, with a context of its server current.
    #[inline]
    pub fn take<T>(self, call: impl FnOnce(&'static Client) -> T) -> T {
        let _pushed = self.is_elsewhere.then(|| Pushed::new(some_context(self.client)));
        call(self.client)
    }
}

/// A context that is current until this goes.
struct Pushed;

impl Pushed {
    #[cold]
    fn new(context: Context) -> Pushed {
        context::push(context);
        Pushed
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        context::pop();
    }
}

/// Makes a call to `client`'s server, with a context of that server current where the thread's own is another's.
pub fn at<T>(client: &Client, call: impl FnOnce() -> T) -> T {
    let is_elsewhere =
        count() > 1 && context::current().is_some_and(|context| of_context(context) != client.server);
    if is_elsewhere { context::within(some_context(client), call) } else { call() }
}

/// A living context of a server, the oldest one; 0 where there is none.
fn some_context(client: &Client) -> Context {
    client.own_contexts().into_iter().min_by_key(|context| context.index()).unwrap_or(Context::from_raw(0))
}

/// The one server of all that a graph does, if it names any.
///
/// Errors: `NOT_SUPPORTED` for several.
pub fn one_of(servers: impl IntoIterator<Item = usize>) -> Answer<Option<usize>> {
    let mut found = None;
    for server in servers {
        if *found.get_or_insert(server) != server {
            crate::report::once("a graph with nodes on several servers is not supported by Farpool");
            return Err(CUresult::NOT_SUPPORTED);
        }
    }
    Ok(found)
}

/// An argument of a call, which may name a server.
#[derive(Debug, Clone, Copy)]
pub struct Argument<T>(pub T);

impl<T: Opaque> Argument<T> {
    /// The server of a handle.
    pub fn server(self) -> Option<usize> {
        of_handle(self.0.bits() as u64)
    }
}

impl Argument<CUgraphExec> {
    /// The server of an executable graph.
    pub fn server(self) -> Option<usize> {
        EXECS.find(self.0.0).map(|exec| exec.server)
    }
}

impl Argument<u64> {
    /// The server of device memory; other numbers are the address of none.
    pub fn server(self) -> Option<usize> {
        with_device_memory(self.0).map(|client| client.server)
    }
}

/// A device, as this program counts devices.
#[derive(Debug, Clone, Copy)]
pub struct Device(pub CUdevice);

impl Argument<Device> {
    /// The server of a device.
    pub fn server(self) -> Option<usize> {
        let found = crate::state::found().ok()?;
        found.devices.get(self.0.0).ok().map(|device| device.server)
    }
}

/// What names no server.
pub trait Unnamed: Sized {
    /// None.
    fn server(self) -> Option<usize> {
        None
    }
}

impl<T> Unnamed for Argument<T> {}

/// For calls that name no server, whatever their arguments are.
pub fn none() -> Option<usize> {
    None
}

/// The server that the arguments of a call name, for [`Turn::of`]: the first one that names any.
macro_rules! named {
    ($($argument:expr),* $(,)?) => {
        || {
            #[allow(unused_imports, reason = "not every call has arguments that name none")]
            use $crate::servers::Unnamed as _;
            let server: Option<usize> = None;
            $(let server = server.or_else(|| $crate::servers::Argument($argument).server());)*
            server
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use super::*;
    use cuda_abi::{CUevent, CUkernel, CUstream};
    use wire::handle::{Event, Kernel, Stream};

    #[test]
    fn an_index_tells_its_server() {
        for count in 1..5 {
            for server in 0..count {
                assert_eq!(server_among(index_among(7, server, count), count), server, "of {count}");
            }
        }
    }

    #[test]
    fn the_first_argument_that_names_a_server_counts_and_code_names_none() {
        let stream = CUstream(usize::try_from(Stream::from_index(7).raw()).unwrap_or(0));
        let event = CUevent(usize::try_from(Event::from_index(1).raw()).unwrap_or(0));
        let kernel = CUkernel(usize::try_from(Kernel::from_index(5).raw()).unwrap_or(0));
        assert_eq!(named!(kernel, 5i32, std::ptr::null::<u8>(), stream, event)(), Some(0));
        assert_eq!(named!(kernel, CUstream(0), CUstream(1), CUstream(2), 0u64)(), None);
        assert_eq!(none(), None);
    }

    #[test]
    fn a_graph_is_on_one_server() {
        assert_eq!(one_of([]), Ok(None));
        assert_eq!(one_of([1, 1]), Ok(Some(1)));
        assert_eq!(one_of([1, 0]), Err(CUresult::NOT_SUPPORTED));
    }
}
