//! The engine keeps the rules of the interface.

#![allow(clippy::expect_used, reason = "helpers of tests are tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use culvert_engine::{EngineBackend, MemoryDevice};
use culvert_offload::{
    DeviceSpec, Offload,
    conformance::{Lab, Tunnel},
};

/// Engines with devices in memory.
#[derive(Default)]
struct Engines {
    last: Mutex<Option<MemoryDevice>>,
}

impl Lab for Engines {
    fn open(&self, device: DeviceSpec) -> Arc<dyn Offload> {
        let (offload, host) = EngineBackend::new().open_in_memory(&device).expect("a device in memory");
        *self.last.lock().expect("one thread") = Some(host);
        offload
    }

    fn tunnel(&self) -> Box<dyn Tunnel> {
        Box::new(Host(self.last.lock().expect("one thread").take().expect("a device was opened")))
    }
}

struct Host(MemoryDevice);

impl Tunnel for Host {
    fn send(&self, packet: &[u8]) {
        self.0.send(packet);
    }

    fn recv(&self, timeout: Duration) -> Option<Vec<u8>> {
        self.0.recv_timeout(timeout)
    }
}

macro_rules! suite {
    ($($group:ident)*) => {
        $(mod $group {
            culvert_offload::conformance_tests!($group, super::Engines::default());
        })*
    };
}

suite!(calls data keys ends addresses tcp);
