//! External programs: hooks, run without a shell, in an environment made from nothing.
//!
//! The walk: a [`ScriptEnv`] collects variables under OpenVPN's names; [`ScriptRunner::run`] starts the program with the
//! hook's arguments appended, in a process group of its own, and waits without blocking anybody else. After 60 s the
//! group gets SIGTERM, later SIGKILL; at most 64 programs run at a time (SEC-EXEC-2). What its end means is known by
//! the methods named after hooks ([`ScriptRunner::verify_login`], [`ScriptRunner::client_connect`] …). What a program
//! answers later goes through files: [`DeferredAuth`], [`ConnectFiles`].

mod answers;
mod env;
mod files;
mod hooks;
mod runner;
mod variables;

pub use answers::Answers;
pub use env::{CharClass, ScriptEnv};
pub use files::{AuthAnswer, ConnectFiles, DeferredAuth, ExchangeFile, Pending};
pub(crate) use hooks::certificate_arguments;
pub use hooks::{ConnectVerdict, Learned, LoginVerdict};
pub use runner::{Hook, ScriptError, ScriptExit, ScriptRunner};
pub(crate) use variables::proto_name;
pub use variables::{PoolFacts, ProcessFacts, Trust, ipchange_arguments};
