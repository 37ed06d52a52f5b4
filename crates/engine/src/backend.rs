use std::{path::Path, sync::Arc};

use culvert_offload::{Backend, DeviceSpec, Offload, OffloadError, Support};
use culvert_wire::OffloadKind;

/// The factory of userspace data planes.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineBackend(());

impl EngineBackend {
    /// Makes the factory; nothing is opened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
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

    fn open(&self, _device: DeviceSpec) -> Result<Arc<dyn Offload>, OffloadError> {
        Err(OffloadError::Unsupported("opening a device yet"))
    }
}
