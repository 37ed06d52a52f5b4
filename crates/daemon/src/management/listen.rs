//! Where clients of the management interface come from: a TCP port, a unix socket, or a connection that culvert makes.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use culvert_config::{profile::ManagementAddress, value::Family};
use culvert_sys::process;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

use super::{Management, connection};
use crate::{address::AfAddress, link, ovlog};

/// How long after a failed accept the next one is tried: out of descriptors, most likely.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Where clients of a unix socket come from, as far as passwords are concerned.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Who may connect to a unix socket.
#[derive(Clone, Copy, Default)]
struct Allowed {
    user: Option<u32>,
    group: Option<u32>,
}

impl Management {
    /// Opens what `management` names. Within the runtime, before privileges are dropped.
    ///
    /// # Errors
    /// What is wrong, in words for the log: without the interface that was asked for, the process does not run.
    pub(crate) async fn open(&self) -> Result<(), String> {
        let allowed = Allowed {
            user: self.settings().client_user.as_deref().map(user_id).transpose()?,
            group: self.settings().client_group.as_deref().map(group_id).transpose()?,
        };
        match &self.settings().at {
            None => Ok(()),
            Some(ManagementAddress::Unix(path)) if self.settings().connects => {
                let stream = UnixStream::connect(path).await.map_err(|failure| {
                    format!("MANAGEMENT: connect to unix socket {} failed: {failure}", path.display())
                })?;
                if !may_connect(&stream, allowed) {
                    return Err(format!("MANAGEMENT: {} is another user's", path.display()));
                }
                self.begin(stream, format!("unix socket {}", path.display()), LOCAL);
                Ok(())
            }
            Some(ManagementAddress::Unix(path)) => self.listen_unix(path, allowed),
            Some(ManagementAddress::Tcp { host, .. }) if host == ManagementAddress::TUNNEL => Ok(()),
            Some(ManagementAddress::Tcp { host, port }) => {
                let address = link::local_address(Some(host), port, Family::Any).await?;
                if self.settings().connects {
                    let stream = TcpStream::connect(address).await.map_err(|failure| {
                        format!("MANAGEMENT: connect to {} failed: {failure}", AfAddress(address))
                    })?;
                    self.begin(stream, AfAddress(address).to_string(), address.ip());
                    return Ok(());
                }
                self.listen_tcp(address)
            }
        }
    }

    /// `management tunnel PORT`: the tunnel has an address now.
    pub(super) fn listen_inside(&self, address: Option<IpAddr>) {
        let Some(ManagementAddress::Tcp { host, port }) = &self.settings().at else { return };
        let (true, Some(ip)) = (host == ManagementAddress::TUNNEL, address) else { return };
        if std::mem::replace(&mut self.lock().tunnel_listener, true) {
            return;
        }
        let (this, port) = (self.clone(), port.clone());
        tokio::spawn(async move {
            let outcome = async {
                let port = link::port_number(&port)?;
                // The device gets its address a moment later.
                let mut bound = this.listen_tcp(SocketAddr::new(ip, port));
                for _ in 0..100 {
                    if bound.is_ok() {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                    bound = this.listen_tcp(SocketAddr::new(ip, port));
                }
                bound
            };
            if let Err(failure) = outcome.await {
                ovlog!(error 1, "{failure}");
                this.lock().tunnel_listener = false;
            }
        });
    }

    fn listen_tcp(&self, address: SocketAddr) -> Result<(), String> {
        // SEC-MGMT-1
        if self.shared.password.is_none() && !address.ip().is_loopback() && !self.settings().insecure {
            return Err(format!(
                "MANAGEMENT: a port on {} without a password would let anybody who reaches it control this process. \
                 Name a password file as third argument of `management`, listen on 127.0.0.1, or set `management-insecure`",
                address.ip()
            ));
        }
        let listener = link::listen_tcp(None, address).map_err(|failure| {
            format!("MANAGEMENT: Socket bind failed on {}: {failure}", AfAddress(address))
        })?;
        self.spawn_tcp(listener, address);
        Ok(())
    }

    fn spawn_tcp(&self, listener: TcpListener, address: SocketAddr) {
        ovlog!(3, "MANAGEMENT: TCP Socket listening on {}", AfAddress(address));
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        let _slow_answers = stream.set_nodelay(true);
                        this.begin(stream, AfAddress(from).to_string(), from.ip());
                    }
                    Err(failure) => {
                        warn!("MANAGEMENT: accept failed: {failure}; pausing");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }

    fn listen_unix(&self, path: &Path, allowed: Allowed) -> Result<(), String> {
        let mode = if allowed.user.is_some() || allowed.group.is_some() { 0o666 } else { 0o600 };
        let listener = bind_private(path, mode)
            .map_err(|failure| format!("MANAGEMENT: Socket bind[{}] failed: {failure}", path.display()))?;
        ovlog!(3, "MANAGEMENT: unix domain socket listening on {}", path.display());
        let (this, name) = (self.clone(), path.display().to_string());
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if may_connect(&stream, allowed) => {
                        this.begin(stream, format!("unix socket {name}"), LOCAL);
                    }
                    Ok(_) => warn!(
                        "MANAGEMENT: unix domain socket client connection rejected -- it is another user's"
                    ),
                    Err(failure) => {
                        warn!("MANAGEMENT: accept failed: {failure}; pausing");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        Ok(())
    }

    fn begin(
        &self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
        from: String,
        source: IpAddr,
    ) {
        tokio::spawn(connection::serve(self.clone(), stream, from, source));
    }

    /// Removes the sockets from the file system.
    pub(super) fn remove_sockets(&self) {
        if let (Some(ManagementAddress::Unix(path)), false) = (&self.settings().at, self.settings().connects)
        {
            // Out of reach after chroot, or with privileges gone: the next start replaces it.
            let _left_behind = fs::remove_file(path);
        }
        self.remove_control_socket();
    }
}

/// Binds a unix socket with these permissions from its first moment on. One that nobody listens on is replaced.
pub(crate) fn bind_private(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        fs::remove_file(path)?;
    }
    // Made under another name: nobody shall connect before the permissions are right.
    let hidden = path.with_extension(format!("{}.new", std::process::id()));
    let _left_behind = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    let placed = fs::set_permissions(&hidden, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&hidden, path));
    if let Err(failure) = placed {
        let _left_behind = fs::remove_file(&hidden);
        return Err(failure);
    }
    Ok(listener)
}

/// Whether the process at the other end is one that `management-client-user` and `-group` permit.
fn may_connect(stream: &UnixStream, allowed: Allowed) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    allowed.user.is_none_or(|user| user == peer.uid())
        && allowed.group.is_none_or(|group| group == peer.gid())
}

fn user_id(name: &str) -> Result<u32, String> {
    process::find_user(name)
        .map(|user| user.uid)
        .map_err(|failure| format!("management-client-user: there is no user '{name}': {failure}"))
}

fn group_id(name: &str) -> Result<u32, String> {
    process::find_group(name)
        .map_err(|failure| format!("management-client-group: there is no group '{name}': {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_a_dead_one_only() {
        let path = std::env::temp_dir().join(format!("culvert-private-{}.sock", std::process::id()));
        let _former = fs::remove_file(&path);
        let first = bind_private(&path, 0o600).expect("a socket");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_private(&path, 0o600).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind_private(&path, 0o600).expect("the former is dead"));
        fs::remove_file(&path).expect("it goes");
    }
}
