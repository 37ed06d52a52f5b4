//! Whole sessions under virtual time over a simulated network, with a fake TLS that is deterministic and with rustls.

mod driver;
mod fake_tls;
mod net;
mod pair;

mod data_channel;
mod disorder;
mod farewells;
mod foreign;
mod handshakes;
mod hostile;
mod lossy;
mod memory;
mod pushing;
mod renegotiations;
mod rustls;
