//! What a monitoring system reads: OpenMetrics text over HTTP (option `metrics`).
//!
//! [`tally`] counts what happens over the life of the process, [`exposition`] writes it down together with the state of
//! the moment, [`http`] serves it. The names that people's dashboards know come from openvpn_exporter, which reads the
//! status file; what it cannot know begins with `culvert_`.

mod exposition;
mod http;
mod tally;

pub(crate) use exposition::{Exposition, OffloadState};
pub(crate) use tally::Tally;
