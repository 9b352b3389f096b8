//! The sandbox, tried from inside: every test forks, closes the sandbox in the child, and does there what a hostile
//! client would have a worker do, or what a worker has to do.

#[path = "../src/sandbox/mod.rs"]
mod sandbox;

#[path = "sandbox/child.rs"]
mod child;
#[path = "sandbox/forbidden.rs"]
mod forbidden;
#[path = "sandbox/needed.rs"]
mod needed;
