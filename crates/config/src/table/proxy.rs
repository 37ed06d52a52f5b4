//! Proxies on the way to the server.

use super::*;
use crate::{
    args::{Args, Problem, Set, problem},
    draft::HttpProxyDraft,
    profile::{HttpProxy, HttpProxyAuth, ProxyLogin, SocksProxy},
    value::{FileOrInline, Port},
};

pub(super) const ROWS: &[OptionRow] = &[
    row(
        "http-proxy",
        "HOST PORT [AUTHFILE|auto|auto-nct] [none|basic|digest|ntlm2]",
        "connect through an HTTP proxy (TCP only)",
    )
    .group(Group::Proxy)
    .roles(CLIENT)
    .also(CONNECTION)
    .offload(&[HTTP_PROXY])
    .arity(1, 4)
    .rules(&[Rule::NotOnServer])
    .set(|d, a| {
        if a.get(1).is_none() {
            return Err(problem("http-proxy port number not defined").remedy("write the port after the host"));
        }
        let auth = match a.get(2) {
            None => HttpProxyAuth::None,
            Some("auto") => HttpProxyAuth::Auto { clear_text: true },
            Some("auto-nct") => HttpProxyAuth::Auto { clear_text: false },
            Some(_) => method(a)?,
        };
        let mut proxy = HttpProxy::new(a.string(0), a.port(1)?, auth);
        proxy.login = a.get(2).filter(|word| !["auto", "auto-nct"].contains(word)).and_then(login_file);
        d.ce.http_proxy.get_or_insert_default().server = Some(proxy);
        Ok(())
    }),
    row("http-proxy-user-pass", "FILE", "credentials for the HTTP proxy")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(INLINE)
        .set(|d, a| {
            let login = match a.inline {
                Some(_) => Some(a.material()),
                None => login_file(a.str(0)),
            };
            d.ce.http_proxy.get_or_insert_default().login = login;
            Ok(())
        }),
    row("http-proxy-option", "NAME [VALUE] [VALUE]", "proxy request details, at most 10 custom headers")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(CONNECTION)
        .default("VERSION 1.0")
        .set(|d, a| option(d.ce.http_proxy.get_or_insert_default(), a)),
    row("http-proxy-override", "HOST PORT [nct]", "force one HTTP proxy on every TCP profile")
        .group(Group::Proxy)
        .roles(CLIENT)
        .offload(&[HTTP_PROXY.when("tcp", |p| p.connections.iter().any(|c| c.proto.transport.is_tcp()))])
        .set(|d, a| {
            let auth = HttpProxyAuth::Auto { clear_text: a.get(2) != Some("nct") };
            let mut proxy = HttpProxy::new(a.string(0), a.port(1)?, auth);
            proxy.agent = Some("OpenVPN-Autoproxy/1.0".to_owned());
            d.http_proxy_override = Some(proxy);
            Ok(())
        }),
    row("socks-proxy", "HOST [PORT] [AUTHFILE]", "connect through a SOCKS5 proxy, over TCP or UDP")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(CONNECTION)
        .default("port 1080")
        .offload(&[blocks(KERNEL, "the kernel does not speak to proxies", "connect directly")
            .note(Note::Lines(&["Note: --socks-proxy disables data channel offload."]))])
        .rules(&[Rule::NotOnServer])
        .set(|d, a| {
            let port = a.get(1).map(|_| a.port(1)).transpose()?.unwrap_or(Port::Number(1080));
            let login = a.get(2).map(|word| login_file(word).map_or(ProxyLogin::Ask, ProxyLogin::Stored));
            d.ce.socks_proxy = Some(SocksProxy { host: a.string(0), port, login });
            Ok(())
        }),
];

/// The fourth word of `http-proxy`.
fn method(a: &Args<'_>) -> Result<HttpProxyAuth, Problem> {
    match a.get(3) {
        None | Some("basic") => Ok(HttpProxyAuth::Basic),
        Some("none") => Ok(HttpProxyAuth::None),
        Some("digest") => Ok(HttpProxyAuth::Digest),
        Some("ntlm2") => Ok(HttpProxyAuth::Ntlm2),
        Some(word) => Err(problem(format!("unknown HTTP authentication method: '{word}'"))
            .at(3)
            .remedy("write one of: none, basic, digest, ntlm2")),
    }
}

/// `stdin` asks.
fn login_file(word: &str) -> Option<FileOrInline> {
    (word != "stdin").then(|| FileOrInline::File(word.into()))
}

fn option(proxy: &mut HttpProxyDraft, a: &Args<'_>) -> Set {
    match (a.str(0), a.len()) {
        ("VERSION", 2) => proxy.version = Some(a.string(1)),
        ("AGENT", 2) => proxy.agent = Some(a.string(1)),
        ("EXT1" | "EXT2" | "CUSTOM-HEADER", 2 | 3) if proxy.headers.len() < MAX_HEADERS => {
            proxy.headers.push((a.string(1), a.get(2).map(str::to_owned)));
        }
        ("EXT1" | "EXT2" | "CUSTOM-HEADER", 2 | 3) => {
            let text = format!(
                "Cannot use more than {MAX_HEADERS} http-proxy-option CUSTOM-HEADER : '{}'",
                a.str(0)
            );
            return Err(problem(text).remedy("remove some"));
        }
        (word, _) => {
            let text = format!("Bad http-proxy-option or missing or extra parameter: '{word}'");
            return Err(problem(text).at(0));
        }
    }
    Ok(())
}

/// As many as OpenVPN takes.
const MAX_HEADERS: usize = 10;

const HTTP_PROXY: Effect = blocks(KERNEL, "the kernel does not speak to proxies", "connect directly")
    .note(Note::Lines(&["Note: --http-proxy disables data channel offload."]));
