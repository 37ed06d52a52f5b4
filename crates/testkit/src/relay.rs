//! A wire that can be listened to, lose, and carry what someone else sends.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::traffic::udp_socket;
use crate::{Namespace, Result};

/// How often the relay's threads look whether they should end.
const PATIENCE: Duration = Duration::from_millis(150);

/// A UDP relay on the wire between a client and its server, which keeps what the client sent.
///
/// It runs in the client's namespace: `client -> relay -> server`. To the server the relay is the client, so
/// whatever [`Relay::inject`] sends comes from the address of a working session.
pub struct Relay {
    /// Where the client should send to.
    pub address: SocketAddr,
    to_server: Arc<UdpSocket>,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
    lossy: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// How many of the client's datagrams it keeps: the handshake and the first data.
    const KEEPS: usize = 200;

    /// Starts it in `namespace`, at `address`, for one client of `server`.
    pub fn start(namespace: &Namespace, address: SocketAddr, server: SocketAddr) -> Result<Self> {
        let to_client = Arc::new(udp_socket(namespace, address)?);
        let to_server = Arc::new(udp_socket(namespace, SocketAddr::new(address.ip(), 0))?);
        to_server.connect(server)?;
        for socket in [&to_client, &to_server] {
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        let relay = Self {
            address,
            to_server: Arc::clone(&to_server),
            recorded: Arc::default(),
            lossy: Arc::default(),
            stop: Arc::default(),
        };
        let client = Arc::new(Mutex::new(None));
        let (up, recorded, stop) = (client.clone(), Arc::clone(&relay.recorded), Arc::clone(&relay.stop));
        let mut wire = Wire { lossy: Arc::clone(&relay.lossy), passed: 0 };
        let (from_client, onward) = (Arc::clone(&to_client), Arc::clone(&to_server));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = from_client.recv_from(&mut buffer) else { continue };
                let bytes = buffer.get(..len).unwrap_or_default();
                *lock(&up) = Some(from);
                let mut recorded = lock(&recorded);
                if recorded.len() < Self::KEEPS {
                    recorded.push(bytes.to_vec());
                }
                if wire.passes() {
                    let _ = onward.send(bytes); // as on any wire
                }
            }
        });
        let stop = Arc::clone(&relay.stop);
        let mut wire = Wire { lossy: Arc::clone(&relay.lossy), passed: 1 };
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok(len) = to_server.recv(&mut buffer) else { continue };
                if let Some(client) = *lock(&client)
                    && wire.passes()
                {
                    let _ = to_client.send_to(buffer.get(..len).unwrap_or_default(), client);
                }
            }
        });
        Ok(relay)
    }

    /// Returns the first datagrams of the client, in order.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        lock(&self.recorded).clone()
    }

    /// Loses every third datagram of each direction from now on, the first from the client among them.
    pub fn lose_a_third(&self) {
        self.lossy.store(true, Ordering::Relaxed);
    }

    /// Sends a datagram to the server from the session's address.
    pub fn inject(&self, bytes: &[u8]) {
        let _ = self.to_server.send(bytes); // as on any wire
    }
}

/// One direction of a relay.
struct Wire {
    lossy: Arc<AtomicBool>,
    passed: u64,
}

impl Wire {
    fn passes(&mut self) -> bool {
        let lost = self.passed.is_multiple_of(3) && self.lossy.load(Ordering::Relaxed);
        self.passed += 1;
        !lost
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
