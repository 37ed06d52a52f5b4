//! The fake keeps the rules that its users rely on.

#![allow(clippy::expect_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use culvert_offload::{Backend, DeviceSpec, Offload, conformance::Lab, fake::FakeBackend};

struct Fakes;

impl Lab for Fakes {
    fn open(&self, device: DeviceSpec) -> Arc<dyn Offload> {
        FakeBackend::new().open(device).expect("a fake always opens")
    }
}

culvert_offload::conformance_tests!(calls, Fakes);
