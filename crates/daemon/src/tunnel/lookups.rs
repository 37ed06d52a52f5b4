//! Names of hosts that routes hold.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use culvert_config::{profile::Routes, value::RouteHost};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

/// How long all of them may take together: a server pushes as many as it likes, and the tunnel waits for them.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Looks up the names that routes hold: a lookup may take seconds, so it is done before anything is built. A name that is
/// missing in what is returned was not found in time.
pub(super) async fn resolve_names(routes: &Routes) -> HashMap<String, Vec<Ipv4Addr>> {
    let hosts = routes.routes.iter().flat_map(|route| std::iter::once(&route.network).chain(&route.gateway));
    let names: BTreeSet<String> = hosts
        .filter_map(|host| if let RouteHost::Name(name) = host { Some(name.clone()) } else { None })
        .collect();
    resolve(names, |name| async move {
        // Dropped, it takes back what still waits for a thread; `lookup_host` would leave that in the queue.
        let mut looking = JoinSet::new();
        looking.spawn_blocking(move || (name.as_str(), 0).to_socket_addrs().map(Iterator::collect));
        looking.join_next().await.ok_or(io::ErrorKind::NotFound)?.map_err(io::Error::other)?
    })
    .await
}

/// Looks all names up at once, as far as there are threads for it.
async fn resolve<F>(names: BTreeSet<String>, lookup: impl Fn(String) -> F) -> HashMap<String, Vec<Ipv4Addr>>
where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let until = Instant::now() + TIME_LIMIT;
    let mut lookups = JoinSet::new();
    for name in names {
        let looking = lookup(name.clone());
        lookups.spawn(async move { (name, looking.await) });
    }
    let mut found = HashMap::new();
    while let Ok(Some(done)) = timeout_at(until, lookups.join_next()).await {
        let Ok((name, Ok(addresses))) = done else { continue };
        let v4 = addresses.into_iter().filter_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        });
        found.insert(name, v4.collect());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_at_once_and_none_holds_up_the_others_for_ever() {
        let names = ["a.example", "b.example", "lost.example", "never.example"].map(str::to_owned);
        let began = Instant::now();
        let found = resolve(names.into(), |name| async move {
            match name.as_str() {
                "never.example" => std::future::pending().await,
                "lost.example" => return Err(io::ErrorKind::NotFound.into()),
                _ => tokio::time::sleep(TIME_LIMIT * 3 / 4).await,
            }
            Ok(vec![([192, 0, 2, 1], 0).into()])
        })
        .await;
        assert_eq!(began.elapsed(), TIME_LIMIT);
        let mut found: Vec<_> = found.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, ["a.example", "b.example"]);
    }
}
