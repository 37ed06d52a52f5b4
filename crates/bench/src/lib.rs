//! The ruler: what `culvert bench` does. It is how this project measures, and how anybody can measure it again from a clone.
//!
//! Two things are measured. [`engine`] times the parts of the userspace engine alone, in this process. `path` builds a
//! network of namespaces, starts one VPN after the other in it, and measures what a user would notice: throughput, loss,
//! delay, CPU. Its results are one JSON file (`results`), of which `table` and `plot` make what people look at: both are pure
//! functions, so that a document can be checked against the figures it was made of.
//!
//! The crate knows the engine's parts and otherwise only programs: culvert, too, is started as a program here, like those
//! that it is compared with. docs/performance.md explains the method to users.

#![forbid(unsafe_code)]

mod cli;
mod crowd;
pub mod engine;
mod error;
mod metric;
mod path;
mod plot;
mod results;
mod table;
mod words;

pub use cli::run;
pub use error::BenchError;
