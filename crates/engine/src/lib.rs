//! The userspace data plane.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]

mod backend;
#[allow(dead_code, unused_imports, reason = "the workers that use it come with the next commits")]
mod packet;

pub use backend::EngineBackend;
