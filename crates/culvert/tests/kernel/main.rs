//! Tunnels whose data packets the kernel's `ovpn` module carries.
//!
//! Needs a kernel with that module (Linux 6.16), besides root and `scripts/peers`; `./test kernel` runs it in a
//! virtual machine (`scripts/vm`), and so do `./test kernel NAME...` for single tests.
//! `CULVERT_TEST_SUBJECT=2.7` puts that OpenVPN in culvert's place, which tests this harness: it drives the
//! same module.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod matrix;
