//! Grants, good and refused.

mod damaged;
mod forged;
mod support;
mod times;
mod vectors;
