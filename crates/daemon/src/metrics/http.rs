//! The HTTP server: `GET /metrics`, nothing else.

use std::{convert::Infallible, sync::Arc, time::Duration};

use culvert_config::{profile::ManagementAddress, value::Family};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
    sync::Semaphore,
};
use tracing::{debug, warn};

use crate::{
    address::AfAddress,
    link,
    management::{Management, What, bind_private},
    ovlog,
};

/// Connections at a time; others wait.
const CONNECTIONS: usize = 16;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let hub = hub.clone();
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve(stream, hub).await;
                    drop(place);
                });
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    serve(stream, hub).await;
                    drop(place);
                });
            }),
        };
        if let Err(failure) = accepted {
            warn!("metrics: accept failed: {failure}; pausing");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Serves one connection, which a scraper may keep open; without a request for [`PATIENCE`] it is closed.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, hub: Management) {
    let service = service_fn(|request| answer(request, &hub));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(failure) = connection.await {
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
