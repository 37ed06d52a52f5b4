//! The conformance suite over the Linux module `ovpn`, and what only the module does.
//!
//! Each test has a network namespace of its own. Needs root and the module: `./test kernel` boots a kernel that has it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod device;
mod ends;
mod helper;
mod lab;
mod network;
mod unload;

mod suite {
    macro_rules! suite {
        ($($group:ident)*) => {
            $(mod $group {
                culvert_offload::conformance_tests!(
                    #[ignore = "needs the ovpn module: run ./test kernel"]
                    $group,
                    crate::lab::KernelLab::new()
                );
            })*
        };
    }

    suite!(calls data keys ends addresses tcp);
}
