//! The HTTP server: `GET /metrics`, nothing else.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use culvert_config::{profile::ManagementAddress, value::Family};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    address::AfAddress,
    link,
    management::{Management, What, bind_private},
    ovlog,
    places::{Places, WhenFull},
};

/// Connections at a time; then the oldest one goes.
const CONNECTIONS: usize = 16;

/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a scraper may keep its connection, which then ends between two requests.
const LIFE: Duration = Duration::from_secs(300);

/// How long after a failed accept the next one is tried.
const PAUSE: Duration = Duration::from_millis(100);

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// A listening socket.
enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(UnixListener),
}

impl Management {
    /// Opens what `metrics` names, if it does. Within the runtime, before privileges are dropped.
    ///
    /// # Errors
    /// What is wrong, in words for the log.
    pub(crate) async fn open_metrics(&self) -> Result<(), String> {
        let Some(at) = &self.settings().metrics else { return Ok(()) };
        let (listener, place) = match at {
            ManagementAddress::Tcp { host, port } => {
                let address = link::local_address(Some(host), port, Family::Any).await?;
                let listener = link::listen_tcp(None, address)
                    .map_err(|failure| format!("metrics {host} {port}: {failure}"))?;
                if !address.ip().is_loopback() {
                    ovlog!(
                        warn 1,
                        "metrics: whoever reaches {} learns names and addresses of clients; listen on 127.0.0.1 to keep them",
                        AfAddress(address)
                    );
                }
                (Listener::Tcp(listener), format!("http://{address}/metrics"))
            }
            ManagementAddress::Unix(path) => {
                let listener = bind_private(path, 0o660)
                    .map_err(|failure| format!("metrics {}: {failure}", path.display()))?;
                (Listener::Unix(listener), path.display().to_string())
            }
        };
        ovlog!(1, "metrics at {place}");
        tokio::spawn(accept(listener, self.clone()));
        Ok(())
    }
}

async fn accept(listener: Listener, hub: Management) {
    let places = Places::new(CONNECTIONS, WhenFull::OldestLeaves);
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, from)| {
                serve_in_place(stream, from.ip(), &places, &hub);
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                serve_in_place(stream, Ipv4Addr::UNSPECIFIED.into(), &places, &hub);
            }),
        };
        if let Err(failure) = accepted {
            warn!("metrics: accept failed: {failure}; pausing");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Serves one connection on a task of its own, until others need its place.
fn serve_in_place(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: IpAddr,
    places: &Arc<Places>,
    hub: &Management,
) {
    let Some(place) = places.take(from) else { return };
    let hub = hub.clone();
    let service = service_fn(move |request| {
        let hub = hub.clone();
        async move { answer(request, &hub).await }
    });
    tokio::spawn(async move {
        tokio::select! {
            () = serve(stream, service, PATIENCE, LIFE) => {}
            () = place.lost() => debug!("metrics: a connection gives way to others"),
        }
    });
}

/// Serves one connection, which a scraper may keep open; without a request for `patience` it is closed, after `life`
/// when a request is answered.
async fn serve<S, A>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: S,
    patience: Duration,
    life: Duration,
) where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future = A>,
    A: Future<Output = Result<Response<Full<Bytes>>, Infallible>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match timeout(life, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            connection.as_mut().graceful_shutdown();
            // Who does not take the answer is not waited for.
            timeout(patience, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(failure) = ended {
        debug!("metrics: {failure}");
    }
}

async fn answer(request: Request<Incoming>, hub: &Management) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::default();
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = hub.ask_role(What::Metrics, "").await;
            if text.ends_with("# EOF\n") {
                response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
                *response.body_mut() = Full::from(text);
            } else {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                *response.body_mut() = Full::from("nothing runs yet: held, or between two attempts\n");
            }
        }
        (&Method::GET | &Method::HEAD, _) => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            *response.body_mut() = Full::from("metrics are at /metrics\n");
        }
        _ => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::from("hello")))
    }

    /// A client that goes on asking for small answers is let go after a while, and one that does not take a large one.
    #[tokio::test]
    async fn no_connection_lasts_for_ever() {
        let short = Duration::from_millis(100);
        let (near, mut far) = tokio::io::duplex(4096);
        let serving = tokio::spawn(serve(near, service_fn(hello), short * 10, short));
        far.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.expect("it ends by itself");
        assert!(answer.ends_with("hello"), "{answer}");
        serving.await.unwrap();

        let (near, mut far) = tokio::io::duplex(16);
        let serving = tokio::spawn(serve(near, service_fn(hello), short, short));
        far.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        serving.await.expect("nobody is waited for");
    }
}
