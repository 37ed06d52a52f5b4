use std::{path::Path, sync::Arc};

use culvert_offload::{Backend, DeviceKind, DeviceSpec, Offload, OffloadError, Support};
use culvert_wire::OffloadKind;

use crate::{
    device::{MemoryDevice, memory_device, open_null, open_program, open_tun},
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
    /// How many workers transmit, and as many receive; `None` derives it from the cores.
    pub workers: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { vnet_header: true, udp_segmentation: true, udp_gro: true, workers: None }
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
        let joined = self.config.vnet_header && spec.ethernet.is_none();
        let joins = Joins { tcp: joined, udp: joined };
        let (device, host) = memory_device(joins, self.workers(spec))
            .map_err(|source| OffloadError::system("open a device in memory", source))?;
        Ok((Arc::new(Engine::start(spec, device, self.config)?), host))
    }
}

impl EngineBackend {
    /// How many workers transmit, and as many receive. Fewer than three cores carry one pair; never more busy threads
    /// than cores, and not more than four pairs: queues beyond that were not measured.
    fn workers(&self, spec: &DeviceSpec) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let derived = (spec.threads.unwrap_or(cores).min(cores) / 2).clamp(1, 4);
        self.config.workers.map_or(derived, |workers| workers.max(1))
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
        let device = match &spec.kind {
            DeviceKind::Tun => open_tun(&spec, self.workers(&spec), self.config.vnet_header)?,
            DeviceKind::Null => open_null()?,
            DeviceKind::Program(program) => open_program(program)?,
        };
        Ok(Arc::new(Engine::start(&spec, device, self.config)?))
    }
}
