//! A peer's keys, as the workers use them and the calls change them.

use std::{ops::Deref, sync::Arc};

use culvert_wire::KeyId;

use crate::{key::Key, sync::Snapshot};

/// The key slots of a peer, replaced as one value: a worker sees them as they were before a change, or after it.
#[derive(Default)]
pub(crate) struct Keys(Snapshot<KeySlots>);

/// The two slots.
#[derive(Clone, Default)]
pub(crate) struct KeySlots {
    pub(crate) primary: Option<Arc<Key>>,
    pub(crate) secondary: Option<Arc<Key>>,
    /// The peer is gone: there will be no keys.
    ended: bool,
}

impl KeySlots {
    /// Finds the key of a received packet.
    pub(crate) fn find(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.primary.iter().chain(&self.secondary).find(|key| key.id() == id)
    }
}

impl Keys {
    /// The slots of this moment.
    pub(crate) fn load(&self) -> impl Deref<Target = Arc<KeySlots>> {
        self.0.load()
    }

    /// Changes the slots in one step. Another call may come between, and `change` runs again. Returns `false` when the
    /// peer is gone.
    ///
    /// # Errors
    /// Those of `change`; the slots are as before then.
    pub(crate) fn change<E>(
        &self,
        mut change: impl FnMut(&mut KeySlots) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut outcome = Ok(true);
        self.0.rcu(|slots| {
            let mut new = KeySlots::clone(slots);
            outcome = if new.ended { Ok(false) } else { change(&mut new).map(|()| true) };
            if matches!(outcome, Ok(true)) { Arc::new(new) } else { Arc::clone(slots) }
        });
        outcome
    }

    /// Ends all keys for good. Workers that remember the peer send and receive nothing more.
    pub(crate) fn end(&self) {
        self.0.store(Arc::new(KeySlots { ended: true, ..KeySlots::default() }));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::convert::Infallible;

    use culvert_crypto::{DataKey, DirectionKey};
    use culvert_wire::CipherName;
    use loom::thread;

    use super::*;

    fn key(id: KeyId) -> Arc<Key> {
        let half = |byte| DirectionKey { secret: [byte; 32], implicit_iv: [byte; 8] };
        let cipher = CipherName::Aes256Gcm;
        let key = DataKey::Classic { id, cipher, send: half(1), recv: half(2) };
        Arc::new(Key::new(&key, (64, 15)).unwrap())
    }

    fn ids() -> [KeyId; 2] {
        [KeyId::FIRST, KeyId::FIRST.next()]
    }

    fn set(slots: &mut KeySlots, [primary, secondary]: [Option<&Arc<Key>>; 2]) -> Result<(), Infallible> {
        slots.primary = primary.cloned().or(slots.primary.take());
        slots.secondary = secondary.cloned().or(slots.secondary.take());
        Ok(())
    }

    fn swap(slots: &mut KeySlots) -> Result<(), ()> {
        if slots.secondary.is_none() {
            return Err(());
        }
        std::mem::swap(&mut slots.primary, &mut slots.secondary);
        Ok(())
    }

    /// A renegotiation: both keys receive from the moment the new one is there, and one of them always sends.
    #[test]
    fn loom_a_worker_never_sees_a_swap_in_the_middle() {
        let [old, new] = ids();
        let [old_key, new_key] = [old, new].map(key);
        loom::model(move || {
            let keys = Arc::new(Keys::default());
            keys.change(|slots| set(slots, [Some(&old_key), None])).unwrap();
            let worker = thread::spawn({
                let keys = Arc::clone(&keys);
                move || {
                    let mut has_new = false;
                    for _ in 0..2 {
                        let slots = keys.load();
                        let sends = slots.primary.as_ref().map(|key| key.id());
                        assert!(slots.find(old).is_some(), "the old key receives throughout");
                        assert!(sends == Some(old) || (sends == Some(new) && slots.find(new).is_some()));
                        assert!(!has_new || slots.find(new).is_some(), "and the new one from then on");
                        has_new = slots.find(new).is_some();
                    }
                }
            });
            keys.change(|slots| set(slots, [None, Some(&new_key)])).unwrap();
            assert_eq!(keys.change(swap), Ok(true));
            worker.join().unwrap();
            assert_eq!(keys.load().primary.as_ref().map(|key| key.id()), Some(new));
        });
    }

    #[test]
    fn loom_two_calls_at_once_lose_neither_change() {
        let [first, second] = ids();
        let [first_key, second_key] = [first, second].map(key);
        loom::model(move || {
            let keys = Arc::new(Keys::default());
            let other = thread::spawn({
                let (keys, key) = (Arc::clone(&keys), Arc::clone(&first_key));
                move || keys.change(|slots| set(slots, [Some(&key), None]))
            });
            assert_eq!(keys.change(|slots| set(slots, [None, Some(&second_key)])), Ok(true));
            assert_eq!(other.join().unwrap(), Ok(true));
            let slots = keys.load();
            assert!(slots.find(first).is_some() && slots.find(second).is_some());
        });
    }

    #[test]
    fn loom_a_peer_that_is_gone_has_no_keys_whoever_brings_one() {
        let [id, _] = ids();
        let key = key(id);
        loom::model(move || {
            let keys = Arc::new(Keys::default());
            let worker = thread::spawn({
                let keys = Arc::clone(&keys);
                move || keys.end()
            });
            keys.change(|slots| set(slots, [Some(&key), None])).unwrap();
            worker.join().unwrap();
            assert!(keys.load().find(id).is_none());
            assert_eq!(keys.change(|slots| set(slots, [Some(&key), None])), Ok(false));
        });
    }
}
