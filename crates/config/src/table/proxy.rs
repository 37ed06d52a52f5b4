//! Proxies on the way to the server.

use super::*;
use crate::args::problem;

pub(super) const ROWS: &[OptionRow] = &[
    row(
        "http-proxy",
        "HOST PORT [AUTHFILE|auto|auto-nct] [none|basic|digest|ntlm2]",
        "connect through an HTTP proxy (TCP only)",
    )
    .group(Group::Proxy)
    .roles(CLIENT)
    .also(CONNECTION)
    .not_yet()
    .offload(&[HTTP_PROXY])
    .arity(1, 4)
    .rules(&[Rule::NotOnServer])
    .set(|d, a| {
        if a.get(1).is_none() {
            return Err(problem("http-proxy port number not defined").remedy("write the port after the host"));
        }
        a.port(1)?;
        d.ce.http_proxy = Some(true);
        Ok(())
    }),
    row("http-proxy-user-pass", "FILE", "credentials for the HTTP proxy")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(INLINE)
        .not_yet()
        .set(|d, _| {
            d.ce.http_proxy.get_or_insert(false);
            Ok(())
        }),
    row("http-proxy-option", "NAME [VALUE] [VALUE]", "proxy request details, at most 10 custom headers")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(CONNECTION)
        .default("VERSION 1.0")
        .not_yet()
        .set(|d, a| {
            d.ce.http_proxy.get_or_insert(false);
            match (a.str(0), a.len()) {
                ("VERSION" | "AGENT", 2) | ("EXT1" | "EXT2" | "CUSTOM-HEADER", 2 | 3) => Ok(()),
                (word, _) => {
                    Err(problem(format!("Bad http-proxy-option or missing or extra parameter: '{word}'"))
                        .at(0))
                }
            }
        }),
    row("http-proxy-override", "HOST PORT [nct]", "force one HTTP proxy on every TCP profile")
        .group(Group::Proxy)
        .roles(CLIENT)
        .not_yet()
        .offload(&[HTTP_PROXY.when("tcp", |p| p.connections.iter().any(|c| c.proto.transport.is_tcp()))]),
    row("socks-proxy", "HOST [PORT] [AUTHFILE]", "connect through SOCKS5 (UDP: IPv4 only)")
        .group(Group::Proxy)
        .roles(CLIENT)
        .also(CONNECTION)
        .default("port 1080")
        .not_yet()
        .offload(&[blocks(KERNEL, "the kernel does not speak to proxies", "connect directly")
            .note(Note::Lines(&["Note: --socks-proxy disables data channel offload."]))])
        .rules(&[Rule::NotOnServer])
        .set(|d, a| {
            a.get(1).map(|_| a.port(1)).transpose()?;
            d.ce.socks_proxy = true;
            Ok(())
        }),
];

const HTTP_PROXY: Effect = blocks(KERNEL, "the kernel does not speak to proxies", "connect directly")
    .note(Note::Lines(&["Note: --http-proxy disables data channel offload."]));
