//! The Linux module `ovpn` (6.16 and later, or ovpn-backports): the kernel carries the data.
//!
//! A translation of the interface into the module's netlink commands (`Documentation/netlink/specs/ovpn.yaml`), plus what the
//! module leaves to whoever drives it. The walk: [`LinuxBackend`] finds the [`module`] and makes the device ([`link`]);
//! [`KernelOffload`](device) turns calls into [`commands`], one at a time, and keeps the books ([`peers`]). One thread
//! ([`watch`]) waits for the module's [`notification`]s, for the end of the device and for sockets ([`waiting`]), and polls
//! counters. Control packets come out of the sockets themselves ([`udp`], [`tcp`]).

mod commands;
mod device;
mod link;
mod module;
mod netlink;
mod notification;
mod peers;
mod tcp;
mod udp;
mod waiting;
mod watch;

use std::sync::Arc;

use culvert_wire::OffloadKind;

use crate::{Backend, DeviceSpec, Offload, OffloadError, Support};
use module::Module;

/// The factory of devices of the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxBackend {
    /// Use the module for TCP peers even on kernels with known defects there (`offload-policy fast`).
    pub trust_tcp: bool,
}

impl LinuxBackend {
    /// Returns what keeps TCP peers away from the running kernel's module, as a clause for the log.
    #[must_use]
    pub fn tcp_defect(&self) -> Option<String> {
        if self.trust_tcp {
            return None;
        }
        let (_, module) = Module::connect().ok()?;
        let defect = module.release.tcp_defect()?;
        Some(format!("the module of Linux {} has a defect in its TCP ({})", module.release, defect.name))
    }
}

impl Backend for LinuxBackend {
    fn kind(&self) -> OffloadKind {
        OffloadKind::Linux
    }

    /// Asking has the kernel load the module, where it may.
    fn probe(&self) -> Support {
        match Module::connect() {
            Ok((_, module)) => Support::Present(format!("kernel ovpn {}", module.release)),
            Err(missing) => Support::Absent(missing.to_string()),
        }
    }

    fn open(&self, device: DeviceSpec) -> Result<Arc<dyn Offload>, OffloadError> {
        Ok(Arc::new(device::KernelOffload::open(&device, *self)?))
    }
}
