//! Farpool's `libcuda.so.1`: what a program loads instead of NVIDIA's. Its calls are answered from what the
//! client knows, or travel to the worker of this process on a GPU server.
//!
//! This library is a guest in somebody else's process: no signal handlers, no allocator of its own, one thread
//! (named, all signals blocked), nothing before `cuInit`, no panic past its exports, nothing on stdout.

mod aside;
mod broker;
mod callback;
mod capture;
mod client;
mod connect;
mod connection;
mod context;
mod convert;
mod coverage;
mod credit;
mod descriptor;
mod device;
mod dial;
mod elsewhere;
mod entry;
mod event;
mod exports;
mod fences;
mod found;
mod generated;
mod graph;
mod hooks;
mod jit;
mod late;
mod launch;
mod memory;
mod module;
mod output;
mod pool;
mod prepared;
mod private_tables;
mod program;
mod progress;
mod queries;
mod rectangle;
mod remembered;
mod report;
mod reserve;
mod servers;
mod slab;
mod state;
mod statistics;
mod stream;
mod thread;
mod unsupported;
mod window;

pub(crate) use unsupported::unsupported;
