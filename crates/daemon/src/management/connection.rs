//! One client of the management interface: what it sends is read and answered here, what it is told leaves here.

use std::{net::IpAddr, sync::Arc, time::Duration};

use culvert_mgmt::{Codec, Input, client_version, reply};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::warn;
use zeroize::Zeroizing;

use super::{Management, Watcher, dispatch::log_command, door};
use crate::{ovlog, signals};

/// How many clients may be connected at once.
pub(super) const MOST_CLIENTS: usize = 16;
/// Bytes that are read at a time.
const READ: usize = 4096;

/// What a connection knows of its client.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) codec: Codec,
    /// `bytecount`; zero: off.
    pub(super) bytecount: Duration,
    /// `exit`.
    pub(super) leaving: bool,
    /// It was greeted: what it did, and that it leaves, means something (SEC-MGMT-1).
    welcome: bool,
}

/// Carries one connection to its end. `from` is how the log names the other end, `source` its address.
pub(super) async fn serve(
    management: Management,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    from: String,
    source: IpAddr,
) {
    let wake = Arc::new(Notify::new());
    let id = management.attach(Arc::clone(&wake));
    ovlog!(3, "MANAGEMENT: Client connected from {from}");
    let (mut reader, writer) = tokio::io::split(stream);
    let password = management.shared.password.clone();
    let mut client =
        Client { id, codec: Codec::new(password), bytecount: Duration::ZERO, leaving: false, welcome: false };
    let writing = write(&management, id, &wake, writer);
    tokio::pin!(writing);
    let reading = async {
        if management.let_in(&mut client, &mut reader, source).await {
            read(&management, &mut client, &mut reader).await;
        }
    };
    tokio::select! {
        () = reading => {
            // What it was told last is still on its way.
            management.leave(id);
            let _slow = tokio::time::timeout(super::LAST_WORDS, writing).await;
        }
        () = &mut writing => {}
    }
    management.dismiss(id);
    ovlog!(3, "MANAGEMENT: Client disconnected");
    management.after_client(client.welcome);
}

/// Reads and answers, until the client leaves.
async fn read(management: &Management, client: &mut Client, reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = Zeroizing::new([0; READ]);
    let far = Duration::from_secs(86_400);
    let mut every = Duration::ZERO;
    let mut tick = interval_at(Instant::now() + far, far);
    loop {
        // First what came together with the password.
        loop {
            let input = match client.codec.poll() {
                Ok(Some(input)) => input,
                Ok(None) => break,
                Err(failure) => return warn!("MANAGEMENT: a client is sent away: {failure}"),
            };
            management.handle(client, input).await;
            if client.leaving {
                return;
            }
        }
        if every != client.bytecount {
            every = client.bytecount;
            let period = if every.is_zero() { far } else { every };
            tick = interval_at(Instant::now() + period, period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let len = tokio::select! {
            read = reader.read(&mut buffer[..]) => match read {
                Ok(0) | Err(_) => return,
                Ok(len) => len,
            },
            _ = tick.tick() => {
                management.send_bytecount(client).await;
                continue;
            }
        };
        if let Err(failure) = client.codec.handle_bytes(&buffer[..len]) {
            return warn!("MANAGEMENT: a client is sent away: {failure}");
        }
    }
}

/// Sends what is queued, until the client is gone or cut off.
async fn write(management: &Management, id: u64, wake: &Notify, mut writer: impl AsyncWrite + Unpin) {
    loop {
        let Some((bytes, last)) = management.take_queue(id) else { return };
        if bytes.is_empty() {
            if last {
                let _gone = writer.shutdown().await;
                return;
            }
            wake.notified().await;
            continue;
        }
        let sending = writer.write_all(&bytes);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                sent = &mut sending => {
                    if sent.is_err() {
                        return;
                    }
                    break;
                }
                () = wake.notified() => {
                    if management.is_over(id) {
                        return;
                    }
                }
            }
        }
    }
}

impl Management {
    /// Gives a connection its queue.
    fn attach(&self, wake: Arc<Notify>) -> u64 {
        let mut hub = self.lock();
        let id = hub.next_watcher;
        hub.next_watcher += 1;
        let watcher = Watcher {
            queue: Zeroizing::default(),
            wake,
            greeted: false,
            over: false,
            closing: false,
            log: false,
            echo: false,
            states: false,
            env_filter: 0,
            version: i64::from(client_version::DEFAULT),
        };
        hub.watchers.insert(id, watcher);
        id
    }

    fn dismiss(&self, id: u64) {
        self.lock().watchers.remove(&id);
        self.changed();
    }

    /// What is queued is the last.
    fn leave(&self, id: u64) {
        if let Some(watcher) = self.lock().watchers.get_mut(&id) {
            watcher.closing = true;
            watcher.wake.notify_one();
        }
    }

    /// What the end of a client means: `management-forget-disconnect`, `management-signal`, `management-client`. Nothing,
    /// where it never gave the password (SEC-MGMT-1).
    fn after_client(&self, was_greeted: bool) {
        let settings = self.settings();
        if was_greeted && settings.forget_disconnect {
            ovlog!(3, "MANAGEMENT: Reset authentication on disconnect");
            self.forget_passwords();
        }
        if was_greeted && settings.signal && self.raise_unless_held(signals::Request::SoftRestart).is_ok() {
            ovlog!(3, "MANAGEMENT: Triggering management signal");
        }
        if settings.connects {
            ovlog!(3, "MANAGEMENT: Triggering management exit");
            self.raise(signals::Request::Terminate);
        }
    }

    fn take_queue(&self, id: u64) -> Option<(Zeroizing<Vec<u8>>, bool)> {
        let mut hub = self.lock();
        let watcher = hub.watchers.get_mut(&id).filter(|watcher| !watcher.over)?;
        Some((std::mem::take(&mut watcher.queue), watcher.closing))
    }

    fn is_over(&self, id: u64) -> bool {
        self.lock().watchers.get(&id).is_none_or(|watcher| watcher.over)
    }

    /// Greets a client, once it has given the password where there is one; `false`: it is to go.
    async fn let_in(
        &self,
        client: &mut Client,
        reader: &mut (impl AsyncRead + Unpin),
        source: IpAddr,
    ) -> bool {
        if !client.codec.needs_password() {
            return self.greet(client);
        }
        // Never refused: the oldest stranger goes.
        let Some(place) = self.shared.door.arrive(source) else { return false };
        tokio::select! {
            knows = self.hear_password(client, reader, source) => knows && self.greet(client),
            () = place.lost() => {
                ovlog!(warn 3, "MANAGEMENT: a client without password gives way to others");
                false
            }
            () = sleep(door::PATIENCE) => {
                ovlog!(warn 3, "MANAGEMENT: a client is sent away: no password within {} s", door::PATIENCE.as_secs());
                false
            }
        }
    }

    /// Asks for the password; returns whether the client knows it.
    async fn hear_password(
        &self,
        client: &mut Client,
        reader: &mut (impl AsyncRead + Unpin),
        source: IpAddr,
    ) -> bool {
        self.push(client.id, reply::PASSWORD_PROMPT);
        let mut buffer = Zeroizing::new([0; READ]);
        loop {
            let Ok(len @ 1..) = reader.read(&mut buffer[..]).await else { return false };
            if let Err(failure) = client.codec.handle_bytes(&buffer[..len]) {
                warn!("MANAGEMENT: a client is sent away: {failure}");
                return false;
            }
            loop {
                let turn = self.shared.door.turn(source).await;
                match client.codec.poll() {
                    Ok(Some(Input::LoggedIn)) => {
                        self.push(client.id, &format!("{}\r\n", reply::PASSWORD_RIGHT));
                        return true;
                    }
                    Ok(Some(Input::WrongPassword(last))) => {
                        turn.was_wrong();
                        self.push(client.id, &format!("{}\r\n", reply::PASSWORD_WRONG));
                        if last {
                            let tries = culvert_mgmt::PASSWORD_TRIES;
                            warn!("MAN: client connection rejected after {tries} failed password attempts");
                            return false;
                        }
                        self.push(client.id, reply::PASSWORD_PROMPT);
                    }
                    // Before the password there is nothing else.
                    Ok(_) | Err(_) => break,
                }
            }
        }
    }

    /// Greets a client, and tells it things from here on; `false`: there are too many.
    fn greet(&self, client: &mut Client) -> bool {
        let mut hub = self.lock();
        if hub.watchers.values().filter(|watcher| watcher.greeted).count() >= MOST_CLIENTS {
            drop(hub);
            ovlog!(warn 3, "MANAGEMENT: a client is refused: {MOST_CLIENTS} are connected");
            return false;
        }
        let version = hub.watchers.get(&client.id).map_or(0, |watcher| watcher.version);
        let special = Self::special_line(&hub, version).unwrap_or_default();
        if let Some(watcher) = hub.watchers.get_mut(&client.id) {
            watcher.greeted = true;
            watcher.push(&format!("{}\r\n{special}", reply::greeting()));
        }
        client.welcome = true;
        true
    }

    /// Sends text to one client.
    pub(super) fn push(&self, id: u64, text: &str) {
        if let Some(watcher) = self.lock().watchers.get_mut(&id) {
            watcher.push(text);
        }
    }

    async fn handle(&self, client: &mut Client, input: Input) {
        match input {
            // Heard at the door.
            Input::LoggedIn | Input::WrongPassword(_) => {}
            Input::Malformed(answer) => self.push(client.id, &format!("{answer}\r\n")),
            Input::Request(line, request) => {
                log_command(&line, &request);
                self.dispatch(client, request).await;
            }
            Input::Block(of, lines) => self.dispatch_block(client, of, lines).await,
        }
    }
}
