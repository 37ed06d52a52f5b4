//! What workers and calls synchronize with.
//!
//! Under `--cfg loom` these are loom's types, which run a test through every order of steps that the memory model
//! allows (CONTRIBUTING.md says how). Loom cannot see into arc-swap: [`Snapshot`] is modelled as the atomic pointer
//! that arc-swap promises to be, and arc-swap itself is trusted.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64},
};

#[cfg(not(loom))]
pub(crate) use arc_swap::ArcSwap as Snapshot;
#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64},
};

#[cfg(loom)]
pub(crate) use self::model::Snapshot;

#[cfg(loom)]
mod model {
    use std::sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering::{AcqRel, Acquire},
    };

    use loom::sync::atomic::AtomicUsize;

    /// An atomic pointer to one of the values that were ever stored. A load may return an old one where nothing orders
    /// it after the store.
    pub(crate) struct Snapshot<T> {
        current: AtomicUsize,
        values: Mutex<Vec<Arc<T>>>,
    }

    impl<T> Snapshot<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self { current: AtomicUsize::new(0), values: Mutex::new(vec![Arc::new(value)]) }
        }

        pub(crate) fn load(&self) -> Loaded<T> {
            Loaded(self.value(self.current.load(Acquire)))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            self.current.swap(self.add(value), AcqRel);
        }

        pub(crate) fn rcu<R: Into<Arc<T>>>(&self, mut change: impl FnMut(&Arc<T>) -> R) -> Arc<T> {
            let mut seen = self.current.load(Acquire);
            loop {
                let old = self.value(seen);
                let new = self.add(change(&old).into());
                match self.current.compare_exchange(seen, new, AcqRel, Acquire) {
                    Ok(_) => return old,
                    Err(other) => seen = other,
                }
            }
        }

        fn value(&self, index: usize) -> Arc<T> {
            Arc::clone(&self.values.lock().unwrap_or_else(PoisonError::into_inner)[index])
        }

        fn add(&self, value: Arc<T>) -> usize {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            values.push(value);
            values.len() - 1
        }
    }

    /// As arc-swap's guards, it leads to the value in two steps.
    pub(crate) struct Loaded<T>(Arc<T>);

    impl<T> std::ops::Deref for Loaded<T> {
        type Target = Arc<T>;

        fn deref(&self) -> &Arc<T> {
            &self.0
        }
    }

    impl<T: Default> Default for Snapshot<T> {
        fn default() -> Self {
            Self::from_pointee(T::default())
        }
    }
}
