use std::{path::Path, sync::Arc};

use culvert_offload::{Backend, DeviceSpec, Offload, OffloadError, Support};
use culvert_wire::OffloadKind;

use crate::{
    device::{MemoryDevice, memory_device, open_tun},
    engine::Engine,
    packet::Joins,
};

/// The factory of userspace data planes.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineBackend {
    config: EngineConfig,
}

/// Which of the system's accelerations the engine may use. All are on by default and fall back by themselves where the
/// system lacks them; switching one off is for measuring and for testing the fallbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Exchange super-packets with the TUN device.
    pub vnet_header: bool,
    /// Have the kernel split trains of datagrams (`UDP_SEGMENT`).
    pub udp_segmentation: bool,
    /// Have the kernel join received datagrams (`UDP_GRO`).
    pub udp_gro: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { vnet_header: true, udp_segmentation: true, udp_gro: true }
    }
}

impl EngineBackend {
    /// Makes the factory; nothing is opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a factory whose devices use only what `config` allows.
    #[must_use]
    pub const fn with_config(config: EngineConfig) -> Self {
        Self { config }
    }

    /// Opens a device in memory instead of a TUN device: for tests, and for running without privileges. Its name and
    /// index mean nothing to the system.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn open_in_memory(
        &self,
        spec: &DeviceSpec,
    ) -> Result<(Arc<dyn Offload>, MemoryDevice), OffloadError> {
        let joins = Joins { tcp: self.config.vnet_header, udp: self.config.vnet_header };
        let (device, host) =
            memory_device(joins).map_err(|source| OffloadError::system("open a device in memory", source))?;
        Ok((Arc::new(Engine::start(spec, device, self.config)?), host))
    }
}

impl Backend for EngineBackend {
    fn kind(&self) -> OffloadKind {
        OffloadKind::Engine
    }

    fn probe(&self) -> Support {
        if Path::new("/dev/net/tun").exists() {
            Support::Present(format!("userspace engine {}", env!("CARGO_PKG_VERSION")))
        } else {
            Support::Absent("/dev/net/tun does not exist: load the kernel module `tun`".to_owned())
        }
    }

    fn open(&self, spec: DeviceSpec) -> Result<Arc<dyn Offload>, OffloadError> {
        let device = open_tun(&spec, crate::engine::workers(spec.threads), self.config.vnet_header)?;
        Ok(Arc::new(Engine::start(&spec, device, self.config)?))
    }
}
