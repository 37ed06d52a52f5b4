//! Files that have to be there.

use std::path::{Path, PathBuf};

use super::Findings;
use crate::{
    diagnostic::{Diagnostic, Severity, os_error},
    draft::Draft,
    files::{Access, Files},
    profile::{AuthUserPass, CrlSource, Dh, Proxy, ProxyLogin, TlsRole},
    value::{Command, FileOrInline},
};

struct Presence<'c> {
    draft: &'c Draft,
    files: &'c dyn Files,
    found: Vec<Diagnostic>,
}

/// Looks at every file that the profile names, in OpenVPN's order.
pub(super) fn check(d: &Draft, files: &dyn Files, f: &mut Findings) {
    let mut p = Presence { draft: d, files, found: Vec::new() };
    let profile = &d.profile;
    let tls = &profile.tls;
    // OpenVPN looks for programs when it reads their option: before everything else.
    p.programs(f);
    let programs = std::mem::take(&mut p.found);
    if let (Some(Dh::Parameters(dh)), Some(TlsRole::Server)) = (&tls.dh, tls.role) {
        p.material(f, "dh", "--dh", Some(dh));
    }
    p.material(f, "ca", "--ca", tls.ca.as_ref());
    p.path(f, "capath", "--capath", tls.capath.as_deref(), Access::Directory);
    // A URI is for the TLS library to open.
    p.material(f, "cert", "--cert", tls.cert.as_ref().filter(|cert| !is_uri(cert)));
    p.material(f, "extra-certs", "--extra-certs", tls.extra_certs.as_ref());
    p.private(f, "key", "--key", tls.key.as_ref().filter(|key| !is_uri(key)));
    p.private(f, "pkcs12", "--pkcs12", tls.pkcs12.as_ref());
    match &tls.crl {
        Some(CrlSource::Directory(dir)) => {
            p.path(f, "crl-verify", "--crl-verify directory", Some(dir), Access::Directory);
        }
        Some(CrlSource::Pem(pem)) => p.material(f, "crl-verify", "--crl-verify", Some(pem)),
        None => {}
    }
    let export = profile.scripts.tls_export_cert.as_deref();
    p.path(f, "tls-export-cert", "--tls-export-cert", export, Access::Directory);
    for entry in &profile.connections {
        p.private(f, "tls-auth", "--tls-auth", entry.tls_auth.as_ref());
        p.private(f, "tls-crypt", "--tls-crypt", entry.tls_crypt.as_ref());
        p.private(f, "tls-crypt-v2", "--tls-crypt-v2", entry.tls_crypt_v2.as_ref().map(|v2| &v2.key));
    }
    for proxy in profile.connections.iter().filter_map(|entry| entry.proxy.as_ref()) {
        match proxy {
            Proxy::Http(http) => p.private(f, "http-proxy", "--http-proxy", http.login.as_ref()),
            Proxy::Socks(socks) => {
                let login = socks.login.as_ref().and_then(ProxyLogin::stored);
                p.private(f, "socks-proxy", "--socks-proxy", login);
            }
        }
    }
    let askpass = tls.askpass.as_ref().and_then(Option::as_ref);
    p.private(f, "askpass", "--askpass", askpass);
    for (option, path, access) in &d.other_files {
        let culprit = option.trim_start_matches('-').split(' ').next().unwrap_or_default();
        p.path(f, culprit, option, Some(path), *access);
    }
    if let Some(AuthUserPass::Stored(file)) = &profile.client.auth_user_pass {
        p.private(f, "auth-user-pass", "--auth-user-pass", Some(file));
    }
    p.path(f, "chroot", "--chroot directory", profile.process.chroot.as_deref(), Access::Directory);
    p.path(f, "writepid", "--writepid", profile.process.writepid.as_deref(), Access::Write);
    let status = profile.log.status.as_ref().map(|status| status.path.as_path());
    p.path(f, "status", "--status", status, Access::Write);
    let ccd = profile.server.client_config_dir.as_deref();
    p.behind_chroot(f, "client-config-dir", "--client-config-dir", ccd);
    p.private(
        f,
        "auth-gen-token-secret",
        "--auth-gen-token-secret",
        profile.server.auth_gen_token_secret.as_ref(),
    );
    let users = profile.server.auth_users.clone().map(FileOrInline::File);
    p.private(f, "auth-users", "--auth-users", users.as_ref());
    // Where nothing is written, the system's own is taken, which is there; behind `chroot` it need not be.
    let usual = profile.process.chroot.as_deref().map(|_| Path::new("/tmp"));
    let tmp = profile.process.tmp_dir.as_deref().or(usual);
    p.behind_chroot(f, "tmp-dir", "Temporary directory (--tmp-dir)", tmp);
    let missing = p.found;
    conclude(f, programs, "Options error: Please correct this error.");
    conclude(f, missing, "Options error: Please correct these errors.");
}

/// Adds what was found, and OpenVPN's line after it.
fn conclude(f: &mut Findings, found: Vec<Diagnostic>, last: &str) {
    if found.is_empty() {
        return;
    }
    f.errors.extend(found);
    f.errors.push(Diagnostic {
        severity: Severity::Error,
        verb: 1,
        openvpn_line: last.to_owned(),
        origin: None,
        explanation: String::new(),
        remedy: String::new(),
    });
}

impl Presence<'_> {
    fn material(&mut self, f: &Findings, culprit: &str, option: &str, material: Option<&FileOrInline>) {
        let path = material.and_then(FileOrInline::path);
        self.path(f, culprit, option, path, Access::Read);
    }

    /// Looks at a file that nobody else should read.
    fn private(&mut self, f: &mut Findings, culprit: &str, option: &str, material: Option<&FileOrInline>) {
        self.material(f, culprit, option, material);
        let Some(path) = material.and_then(FileOrInline::path) else { return };
        if self.files.is_open_to_others(&self.draft.resolve(path)) {
            let line = format!("WARNING: file '{}' is group or others accessible", path.display());
            if !f.notes.iter().any(|note| note.openvpn_line == line) {
                f.note(Severity::Warning, culprit, line, &format!("chmod go= {}", path.display()));
            }
        }
    }

    /// Looks at a directory that is used after `chroot`: within it.
    fn behind_chroot(&mut self, f: &Findings, culprit: &str, option: &str, path: Option<&Path>) {
        let Some(path) = path else { return };
        let inside = self.draft.profile.process.chroot.as_ref().map(|root| {
            // As OpenVPN puts it together, and prints it.
            PathBuf::from(format!("{}/{}", root.display(), path.display()))
        });
        self.path(f, culprit, option, Some(inside.as_deref().unwrap_or(path)), Access::Directory);
    }

    fn path(&mut self, f: &Findings, culprit: &str, option: &str, path: Option<&Path>, access: Access) {
        let Some(path) = path else { return };
        let Err(error) = self.files.probe(&self.draft.resolve(path), access) else { return };
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: format!(
                "Options error: {option} fails with '{}': {}",
                path.display(),
                os_error(&error)
            ),
            origin: f.origin(culprit),
            explanation: self.where_it_is(path),
            remedy: remedy(access).to_owned(),
        };
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }

    /// Relative names mean another directory than people think; says which.
    fn where_it_is(&self, path: &Path) -> String {
        match path.is_relative() && !self.draft.cwd.as_os_str().is_empty() {
            true => format!("that is {}", self.draft.resolve(path).display()),
            false => String::new(),
        }
    }

    fn programs(&mut self, f: &Findings) {
        let scripts = &self.draft.profile.scripts;
        let verify = self.draft.profile.server.auth_user_pass_verify.as_ref().map(|verify| &verify.command);
        let dns = match &self.draft.profile.routes.dns_updown {
            crate::profile::DnsUpdown::Command(command) => Some(command),
            _ => None,
        };
        let programs: [(&str, Option<&Command>); 13] = [
            ("up", scripts.up.as_ref()),
            ("down", scripts.down.as_ref()),
            ("ipchange", scripts.ipchange.as_ref()),
            ("route-up", scripts.route_up.as_ref()),
            ("route-pre-down", scripts.route_pre_down.as_ref()),
            ("auth-user-pass-verify", verify),
            ("client-connect", scripts.client_connect.as_ref()),
            ("client-disconnect", scripts.client_disconnect.as_ref()),
            ("learn-address", scripts.learn_address.as_ref()),
            ("client-crresponse", scripts.client_crresponse.as_ref()),
            ("tls-crypt-v2-verify", self.draft.profile.tls.tls_crypt_v2_verify.as_ref()),
            ("tls-verify", scripts.tls_verify.as_ref()),
            ("dns-updown", dns),
        ];
        for (name, command) in programs {
            let program = command.and_then(|command| command.argv.first()).map(Path::new);
            self.path(f, name, &format!("--{name} script"), program, Access::Execute);
        }
    }
}

fn is_uri(material: &FileOrInline) -> bool {
    let Some(path) = material.path() else { return false };
    let text = path.to_string_lossy();
    match (text.find(':'), text.find('/')) {
        (Some(colon), slash) => slash.is_none_or(|slash| colon < slash) && !text.starts_with("file:"),
        (None, _) => false,
    }
}

fn remedy(access: Access) -> &'static str {
    match access {
        Access::Read => "name a file that exists and can be read; relative names begin at `cd`",
        Access::Directory => "make the directory, or name another one",
        Access::Write => "make its directory, or name a place that can be written",
        Access::Execute => "name a program by its full path, and make it executable",
    }
}
