//! Resolvers that are told by a program.

use std::{
    io::Write as _,
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
};

use super::{DnsServer, DnsSettings, DnsTransport, DnsUndo, Dnssec, is_domain};
use crate::HostError;

/// A device has one list of servers in systemd-resolved: the best server that it can talk to.
pub(super) fn set_resolved(
    program: &Path,
    device: &str,
    settings: &DnsSettings,
) -> Result<DnsUndo, HostError> {
    let server = settings.servers.iter().find(|server| server.transport != Some(DnsTransport::DoH));
    if server.is_none() && !settings.servers.is_empty() {
        return Err(HostError::Dns(
            "systemd-resolved does not speak DNS over HTTPS; ask the server's operator for DoT".to_owned(),
        ));
    }
    let call = |arguments: &[&str]| run(program, arguments, None);
    if let Some(server) = server {
        let addresses: Vec<String> = addresses(server).collect();
        let mut words = vec!["dns", device];
        words.extend(addresses.iter().map(String::as_str));
        call(&words)?;
    }
    let mut domains: Vec<String> = settings.search().map(str::to_owned).collect();
    let routed: Vec<String> = server
        .into_iter()
        .flat_map(|server| &server.resolve_domains)
        .filter(|name| is_domain(name))
        .map(|name| format!("~{name}"))
        .collect();
    // Without domains of its own the tunnel's server answers for everything: nothing leaks to the local one.
    let everything = server.is_some() && routed.is_empty();
    domains.extend(routed);
    if everything {
        domains.push("~.".to_owned());
    }
    if !domains.is_empty() {
        let mut words = vec!["domain", device];
        words.extend(domains.iter().map(String::as_str));
        call(&words)?;
    }
    if server.is_some() {
        call(&["default-route", device, if everything { "true" } else { "false" }])?;
    }
    if let Some(dnssec) = server.and_then(|server| server.dnssec) {
        let word = match dnssec {
            Dnssec::Yes => "yes",
            Dnssec::No => "no",
            Dnssec::Optional => "allow-downgrade",
        };
        call(&["dnssec", device, word])?;
    }
    if let Some(transport) = server.and_then(|server| server.transport) {
        call(&["dnsovertls", device, if transport == DnsTransport::DoT { "yes" } else { "no" }])?;
    }
    Ok(DnsUndo::Resolved { device: device.to_owned() })
}

/// `10.8.0.1`, `10.8.0.1:5353`, `[fd00::1]:5353`, with `#name` for the certificate.
fn addresses(server: &DnsServer) -> impl Iterator<Item = String> {
    let sni = server.sni.as_deref().filter(|name| is_domain(name));
    server.addresses.iter().map(move |address| {
        let place = match (address.address, address.port) {
            (address, None) => address.to_string(),
            (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        };
        match sni {
            Some(name) => format!("{place}#{name}"),
            None => place,
        }
    })
}

pub(super) fn unset_resolved(program: &Path, device: &str) -> Result<(), HostError> {
    // The settings go with the device.
    if !device_exists(device) {
        return Ok(());
    }
    run(program, &["revert", device], None)
}

pub(super) fn set_resolvconf(
    program: &Path,
    device: &str,
    settings: &DnsSettings,
) -> Result<DnsUndo, HostError> {
    run(program, &["-a", device], Some(&settings.resolv_conf()?))?;
    Ok(DnsUndo::Resolvconf { device: device.to_owned() })
}

pub(super) fn unset_resolvconf(program: &Path, device: &str) -> Result<(), HostError> {
    run(program, &["-d", device], None)
}

fn device_exists(device: &str) -> bool {
    Path::new("/sys/class/net").join(device).exists()
}

/// Runs a program of the system to its end, without our environment.
fn run(program: &Path, arguments: &[&str], input: Option<&str>) -> Result<(), HostError> {
    let failed = |reason: String| HostError::Program { program: program.display().to_string(), reason };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that does not read says so by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}
