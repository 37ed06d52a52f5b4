//! The cases of `culvert bench engine` under divan: `cargo bench -p culvert-bench [-- FILTER]`.

#![expect(clippy::expect_used, reason = "a case that cannot be prepared ends the run")]

use std::{cell::RefCell, fmt};

use culvert_bench::engine::{Case, cases};
use divan::{Bencher, counter::ItemsCount};

struct Named(Case);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

fn main() {
    divan::main();
}

/// One run at a time: what is prepared for a run is good for that one.
#[divan::bench(args = cases().into_iter().map(Named), sample_size = 1, sample_count = 1000, max_time = 1)]
fn engine(bencher: Bencher<'_, '_>, case: &Named) {
    let work = RefCell::new(case.0.prepare().expect("the engine has what its cases need"));
    bencher
        .counter(ItemsCount::new(case.0.items))
        .with_inputs(|| work.borrow_mut().prepare())
        .bench_local_refs(|()| work.borrow_mut().run());
}
