//! The servers of the session, and which of them a call is for. Mostly there is one, and nothing is looked up. With several
//! this process has a client for each (ADR 21): handles tell theirs by their number, device memory by its address, contexts by
//! their handle; code is on all of them, and what names no server is for that of the thread's current context.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuda_abi::{CUdevice, CUgraphExec, CUresult};
use wire::handle::{Context, Handle as _, Kind};

use crate::client::Client;
use crate::context::{self, Pushed};
use crate::convert::Opaque;
use crate::entry::Answer;
use crate::graph::exec::EXECS;
use crate::memory::{Range, RangeKind};
use crate::report;

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

/// The range that holds `address`, where `accept` takes it, and the client that knows it; that of server `first` is asked first.
fn find(first: usize, address: u64, accept: impl Fn(RangeKind) -> bool) -> Option<(&'static Client, Range)> {
    let clients = clients();
    let order = (0..clients.len()).map(|step| (first + step) % clients.len());
    let known = |server: usize| {
        let client = clients.get(server)?;
        let range = client.ranges.find(address).filter(|range| accept(range.kind))?;
        Some((client, range))
    };
    order.filter_map(known).next()
}

/// The range of device memory that holds `address`, and the client that knows it.
pub fn device_memory(address: u64) -> Option<(&'static Client, Range)> {
    find(current(), address, RangeKind::is_device)
}

/// The same where the memory is said to be of `context`, whose server is asked first: drivers of different servers may choose
/// the same address.
pub fn device_memory_of(context: Context, address: u64) -> Option<(&'static Client, Range)> {
    find(of_context(context), address, RangeKind::is_device)
}

/// Whether all of `length` bytes at `address` are pinned memory of this process, for whichever server.
pub fn is_pinned(client: &Client, address: u64, length: u64) -> bool {
    client.ranges.is_pinned(address, length)
        || (count() > 1 && clients().iter().any(|other| other.ranges.is_pinned(address, length)))
}

/// The server that knows `address`, be it device memory or pinned memory of this process.
pub fn of_address(address: u64) -> Option<usize> {
    known(address).map(|(client, _)| client.server)
}

/// The range that holds `address`, be it device memory or pinned memory of this process, and the client that knows it.
fn known(address: u64) -> Option<(&'static Client, Range)> {
    find(current(), address, |_| true)
}

/// The client that knows `address`; `client` where none does.
pub fn with_address(client: &'static Client, address: u64) -> &'static Client {
    if count() == 1 { client } else { known(address).map_or(client, |(knows, _)| knows) }
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

/// What an argument names: a server, and the context of what it is, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    server: usize,
    context: Option<Context>,
}

impl Place {
    fn on(server: usize) -> Place {
        Place { server, context: None }
    }

    fn of(context: Context) -> Place {
        Place { server: of_context(context), context: Some(context) }
    }
}

/// What the arguments of a call name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// The first place.
    first: Option<Place>,
    /// Whether others are on another server.
    has_several: bool,
}

impl Named {
    /// The same with another argument.
    #[must_use]
    pub fn and(self, place: Option<Place>) -> Named {
        let has_another = self.first.zip(place).is_some_and(|(first, other)| first.server != other.server);
        Named { first: self.first.or(place), has_several: self.has_several || has_another }
    }
}

/// What a call is for: a client, and a context of its server where the thread's current one is another server's.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The client.
    pub client: &'static Client,
    elsewhere: Option<Context>,
}

impl Turn {
    /// What the call `name` is for, whose arguments name `named`.
    ///
    /// Errors: `NOT_SUPPORTED` for several servers.
    #[inline]
    pub fn of(clients: &'static [Client], name: &'static str, named: impl FnOnce() -> Named) -> Answer<Turn> {
        if let [only] = clients {
            return Ok(Turn { client: only, elsewhere: None });
        }
        Turn::among(clients, name, named())
    }

    #[cold]
    fn among(clients: &'static [Client], name: &'static str, named: Named) -> Answer<Turn> {
        if named.has_several {
            report::once(&format!("{name} with objects of two servers is not supported by Farpool"));
            return Err(CUresult::NOT_SUPPORTED);
        }
        let here = context::current().map(of_context);
        let server = named.first.map(|place| place.server).or(here).unwrap_or(0);
        let client = clients.get(server).ok_or(CUresult::INVALID_HANDLE)?;
        let elsewhere = here
            .filter(|here| *here != server)
            .map(|_| named.first.and_then(|place| place.context).unwrap_or_else(|| some_context(client)));
        Ok(Turn { client, elsewhere })
    }

    /// Makes the call, with a context of its server current.
    #[inline]
    pub fn take<T>(self, call: impl FnOnce(&'static Client) -> T) -> T {
        let _pushed = self.elsewhere.map(Pushed::new);
        call(self.client)
    }
}

/// Makes a call to `client`'s server, with a context of that server current where the thread's own is another's.
pub fn at<T>(client: &Client, call: impl FnOnce() -> T) -> T {
    let is_elsewhere =
        count() > 1 && context::current().is_some_and(|context| of_context(context) != client.server);
    let _pushed = is_elsewhere.then(|| Pushed::new(some_context(client)));
    call()
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
            report::once("a graph with nodes on several servers is not supported by Farpool");
            return Err(CUresult::NOT_SUPPORTED);
        }
    }
    Ok(found)
}

/// An argument of a call, which may name a server.
#[derive(Debug, Clone, Copy)]
pub struct Argument<T>(pub T);

impl<T: Opaque> Argument<T> {
    /// The place of a handle.
    pub fn place(self) -> Option<Place> {
        let raw = self.0.bits() as u64;
        let server = of_handle(raw)?;
        let known = clients().get(server).and_then(|client| client.context_of_handle(raw));
        Some(Place { server, context: known })
    }
}

impl Argument<CUgraphExec> {
    /// The place of an executable graph.
    pub fn place(self) -> Option<Place> {
        EXECS.find(self.0.0).map(|exec| Place::on(exec.server))
    }
}

impl Argument<u64> {
    /// The place of device memory; other numbers are the address of none.
    pub fn place(self) -> Option<Place> {
        device_memory(self.0).map(|(_, range)| Place::of(range.context))
    }
}

/// A device, as this program counts devices.
#[derive(Debug, Clone, Copy)]
pub struct Device(pub CUdevice);

impl Argument<Device> {
    /// The place of a device.
    pub fn place(self) -> Option<Place> {
        let found = crate::state::found().ok()?;
        found.devices.get(self.0.0).ok().map(|device| Place::on(device.server))
    }
}

/// What names no server.
pub trait Unnamed: Sized {
    /// None.
    fn place(self) -> Option<Place> {
        None
    }
}

impl<T> Unnamed for Argument<T> {}

/// For calls that name no server, whatever their arguments are.
pub fn none() -> Named {
    Named::default()
}

/// What the arguments of a call name, for [`Turn::of`].
macro_rules! named {
    ($($argument:expr),* $(,)?) => {
        || {
            #[allow(unused_imports, reason = "not every call has arguments that name none")]
            use $crate::servers::Unnamed as _;
            $crate::servers::none()$(.and($crate::servers::Argument($argument).place()))*
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
        let found = named!(kernel, 5i32, std::ptr::null::<u8>(), stream, event)();
        assert_eq!(found, none().and(Some(Place::on(0))));
        assert_eq!(named!(kernel, CUstream(0), CUstream(1), CUstream(2), 0u64)(), none());
        let (one, other) = (Some(Place::on(2)), Some(Place::on(1)));
        assert!(!none().and(one).and(None).and(one).has_several);
        assert!(none().and(one).and(None).and(other).and(one).has_several);
    }

    #[test]
    fn a_graph_is_on_one_server() {
        assert_eq!(one_of([]), Ok(None));
        assert_eq!(one_of([1, 1]), Ok(Some(1)));
        assert_eq!(one_of([1, 0]), Err(CUresult::NOT_SUPPORTED));
    }
}
