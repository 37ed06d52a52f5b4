//! Who may log in: what judges user name and password besides programs.
//!
//! [`users`] is culvert's own file of users, with one-time codes (`totp`); `plugins` are foreign code, on threads of their
//! own; `throttle` is the brake on guessing, whoever judges; `memory` is what is kept of all that; `tokens` are what a server
//! hands out in place of the password.

pub(crate) mod challenge;
pub(crate) mod memory;
pub(crate) mod plugins;
pub(crate) mod throttle;
pub(crate) mod tokens;
mod totp;
mod user_file;
pub mod users;
