//! External programs: hooks, run without a shell, in an environment made from nothing.
//!
//! The walk: a [`ScriptEnv`] collects variables under OpenVPN's names; [`ScriptRunner::run`] starts the program with the
//! hook's arguments appended, in a process group of its own, and waits without blocking anybody else. After 60 s the
//! group gets SIGTERM, later SIGKILL; at most 64 programs run at a time (SEC-EXEC-2). What a program answers later
//! goes through files: [`DeferredAuth`], [`ConnectFiles`].

mod env;
mod files;
mod runner;

pub use env::{CharClass, ScriptEnv};
pub use files::{AuthAnswer, ConnectFiles, CredentialFile, DeferredAuth, Pending};
pub use runner::{Hook, ScriptError, ScriptExit, ScriptRunner};
