//! How long certificates and revocation lists hold, and whether they can be used at all.

use std::path::Path;

use culvert_config::{
    Files, Profile,
    profile::{CrlSource, TlsRole},
    value::FileOrInline,
};
use culvert_daemon::{CaFiles, capath_files};
use culvert_proto::tls::{self, InspectedCertificate, SecretPem, crl_end, inspect_certificates, open_pkcs12};
use zeroize::Zeroizing;

use crate::finding::Finding;

/// How long before its end a certificate or a list is warned about.
const AHEAD: i64 = 30 * DAY;
const DAY: i64 = 24 * 60 * 60;

/// What was found in one file.
pub(crate) struct Dated {
    /// The option.
    pub(crate) option: &'static str,
    /// The file, or `[inline]`.
    pub(crate) file: String,
    /// The certificate's holder; `None` for a list.
    pub(crate) subject: Option<String>,
    /// Key and signature.
    pub(crate) key: Option<String>,
    /// When it begins to hold, Unix seconds.
    pub(crate) starts: Option<i64>,
    /// When it ends, Unix seconds.
    pub(crate) ends: Option<i64>,
}

/// Certificates and lists of a profile, and what is to be said about them at this time (Unix seconds).
pub(crate) fn inspect(profile: &Profile, files: &dyn Files, now: i64) -> (Vec<Dated>, Vec<Finding>) {
    let mut found = Inspection { dated: Vec::new(), findings: Vec::new(), now };
    let tls = &profile.tls;
    let sources = [("ca", &tls.ca), ("cert", &tls.cert), ("extra-certs", &tls.extra_certs)];
    let at = |path: &Path| profile.process.cd.as_deref().unwrap_or(Path::new("")).join(path);
    for (option, source) in sources {
        let Some(source) = source else { continue };
        let Some((file, text)) = content(source, files, &at) else { continue };
        let certificates = inspect_certificates(&text);
        match certificates.as_deref() {
            Ok([]) => {
                found.unusable(option, &file, "it holds no certificate (`-----BEGIN CERTIFICATE-----`)")
            }
            Ok(certificates) => {
                let own = (option == "cert").then_some(tls.role).flatten();
                for certificate in certificates.iter().take(if option == "cert" { 1 } else { usize::MAX }) {
                    found.certificate(option, &file, certificate, own);
                }
            }
            Err(problem) => found.unusable(option, &file, problem),
        }
    }
    found.pkcs12(profile, files, &at);
    found.directory(profile, files, &at);
    if let Some(CrlSource::Pem(source)) = &tls.crl
        && let Some((file, text)) = content(source, files, &at)
    {
        match crl_end(&text) {
            Ok(ends) => found.list("crl-verify", &file, ends),
            Err(problem) => found.unusable("crl-verify", &file, &problem),
        }
    }
    (found.dated, found.findings)
}

/// Reads it; what cannot be read was reported already.
fn content(
    source: &FileOrInline,
    files: &dyn Files,
    at: &dyn Fn(&Path) -> std::path::PathBuf,
) -> Option<(String, Vec<u8>)> {
    match source {
        FileOrInline::File(path) => Some((path.display().to_string(), files.read(&at(path)).ok()?)),
        FileOrInline::Inline(text) => Some(("[inline]".to_owned(), text.expose().as_bytes().to_vec())),
    }
}

/// What `askpass` has written in a file.
fn passphrase(
    profile: &Profile,
    files: &dyn Files,
    at: &dyn Fn(&Path) -> std::path::PathBuf,
) -> Option<Zeroizing<String>> {
    let source = profile.tls.askpass.as_ref()?.as_ref()?;
    let (_, text) = content(source, files, at)?;
    let text = Zeroizing::new(String::from_utf8(text).ok()?);
    Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

struct Inspection {
    dated: Vec<Dated>,
    findings: Vec<Finding>,
    now: i64,
}

impl Inspection {
    /// The certificates of a `pkcs12` file, as far as it opens without asking anybody. Why a file cannot be used at all is told
    /// by who has it taken apart as a start does.
    fn pkcs12(&mut self, profile: &Profile, files: &dyn Files, at: &dyn Fn(&Path) -> std::path::PathBuf) {
        const OPTION: &str = "pkcs12";
        // An inline block is base64, and has no name by which its holder would know it.
        let Some(source @ FileOrInline::File(_)) = &profile.tls.pkcs12 else { return };
        let Some((file, text)) = content(source, files, at) else { return };
        let packed = SecretPem { origin: file.clone(), text: Zeroizing::new(text) };
        let passphrase = passphrase(profile, files, at);
        let Ok(opened) = open_pkcs12(&packed, passphrase.as_ref().map(|text| text.as_str())) else { return };
        for (text, own) in [(&opened.certificate, profile.tls.role), (&opened.others, None)] {
            for certificate in inspect_certificates(text).unwrap_or_default() {
                self.certificate(OPTION, &file, &certificate, own);
            }
        }
    }

    /// Certificates and lists of `capath`.
    fn directory(&mut self, profile: &Profile, files: &dyn Files, at: &dyn Fn(&Path) -> std::path::PathBuf) {
        let Some(directory) = &profile.tls.capath else { return };
        let CaFiles { certificates, lists } = capath_files(&at(directory)).unwrap_or_default();
        for path in certificates {
            let Ok(text) = files.read(&path) else { continue };
            let file = path.display().to_string();
            match inspect_certificates(&text) {
                Ok(found) => found.iter().for_each(|one| self.certificate("capath", &file, one, None)),
                Err(problem) => self.unusable("capath", &file, &problem),
            }
        }
        for path in lists {
            let Ok(text) = files.read(&path) else { continue };
            let file = path.display().to_string();
            match crl_end(&text) {
                Ok(ends) => self.list("capath", &file, ends),
                Err(problem) => self.unusable("capath", &file, &problem),
            }
        }
    }

    fn certificate(
        &mut self,
        option: &'static str,
        file: &str,
        certificate: &InspectedCertificate,
        own: Option<TlsRole>,
    ) {
        let what = format!("{option} {file}: the certificate of {}", certificate.subject);
        self.dates(
            "certificate-expiry",
            &what,
            Some(certificate.starts),
            Some(certificate.ends),
            "issue it anew",
        );
        if let Some(weakness) = certificate.weakness {
            let remedy = "issue it anew, with RSA of 2048 bits or more, or an elliptic curve, and SHA-256";
            self.findings.push(Finding::warning("weak-certificate", format!("{what}: {weakness}"), remedy));
        }
        let usable = |role: TlsRole| {
            let role = match role {
                TlsRole::Server => tls::TlsRole::Server,
                TlsRole::Client => tls::TlsRole::Client,
            };
            certificate.roles.is_empty() || certificate.roles.contains(&role)
        };
        if let Some(role) = own.filter(|role| !usable(*role)) {
            let (this, other) = match role {
                TlsRole::Server => ("server", "client"),
                TlsRole::Client => ("client", "server"),
            };
            self.findings.push(Finding::warning(
                "certificate-usage",
                format!("{what} is for a TLS {other}, and this end is the TLS {this}: peers refuse it"),
                format!("issue one with the extended key usage of a TLS {this}"),
            ));
        }
        self.dated.push(Dated {
            option,
            file: file.to_owned(),
            subject: Some(certificate.subject.clone()),
            key: Some(certificate.key.clone()),
            starts: Some(certificate.starts),
            ends: Some(certificate.ends),
        });
    }

    fn list(&mut self, option: &'static str, file: &str, ends: Option<i64>) {
        self.dates(
            "crl-expiry",
            &format!("{option} {file}: the revocation list"),
            None,
            ends,
            "issue a new list (`easyrsa gen-crl`): behind that date nobody is let in",
        );
        let file = file.to_owned();
        self.dated.push(Dated { option, file, subject: None, key: None, starts: None, ends });
    }

    /// Compares with the clock. Only one of the two is right when they disagree about the beginning.
    fn dates(
        &mut self,
        name: &'static str,
        what: &str,
        starts: Option<i64>,
        ends: Option<i64>,
        remedy: &str,
    ) {
        if let Some(starts) = starts.filter(|starts| *starts > self.now) {
            self.findings.push(Finding::error(
                "clock",
                format!(
                    "{what} begins to hold {}, and this machine says it is {}",
                    date(starts),
                    date(self.now)
                ),
                "set this machine's clock, or wait",
            ));
        }
        let Some(ends) = ends else { return };
        let left = ends - self.now;
        if left < 0 {
            self.findings.push(Finding::error(name, format!("{what} ended {}", date(ends)), remedy));
        } else if left < AHEAD {
            let days = left / DAY;
            let text =
                format!("{what} ends {}, in {days} day{}", date(ends), if days == 1 { "" } else { "s" });
            self.findings.push(Finding::warning(name, text, remedy));
        }
    }

    fn unusable(&mut self, option: &'static str, file: &str, problem: &str) {
        self.findings.push(Finding::error(
            "certificate-file",
            format!("{option} {file}: {problem}"),
            "name the right file, in PEM",
        ));
    }
}

/// Returns Unix seconds as a date.
pub(crate) fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("at {seconds}"), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use culvert_config::Disk;
    use culvert_testkit::{Algorithm, Pki};

    use super::*;
    use crate::finding::Level;

    /// When the certificates and lists of tests end: 2049-01-01.
    const END: i64 = 2_493_072_000;

    fn found(pki: &Pki, cert: &Path, now: i64) -> Vec<Finding> {
        let crl = pki.revoke(&pki.client).unwrap();
        let arguments = format!(
            "--client --dev tun --remote a --ca {} --cert {} --key {} --crl-verify {}",
            pki.ca.display(),
            cert.display(),
            pki.client.key.display(),
            crl.display()
        );
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let checked = culvert_config::parse(&arguments, &Disk).check(&Disk);
        assert!(checked.errors.is_empty(), "{:?}", checked.errors);
        inspect(&checked.profile, &Disk, now).1
    }

    fn names(findings: &[Finding]) -> Vec<(&'static str, Level)> {
        findings.iter().map(|finding| (finding.name, finding.level)).collect()
    }

    #[test]
    fn the_end_of_certificates_and_lists_is_warned_about_a_month_ahead() {
        let pki = Pki::new(Algorithm::Ec).unwrap();
        let at = |now: i64| found(&pki, &pki.client.cert, now);
        assert_eq!(at(END - AHEAD), []);
        let late = at(END - 2 * DAY);
        let (expiry, crl) = ("certificate-expiry", "crl-expiry");
        assert_eq!(names(&late), [(expiry, Level::Warning), (expiry, Level::Warning), (crl, Level::Warning)]);
        assert!(
            late[1].text.ends_with("the certificate of CN=client ends 2049-01-01 00:00 UTC, in 2 days"),
            "{late:?}"
        );
        assert!(at(END - DAY)[0].text.ends_with("in 1 day"));
        let over = at(END + 1);
        assert_eq!(names(&over), [(expiry, Level::Error), (expiry, Level::Error), (crl, Level::Error)]);
        assert!(over[2].text.ends_with("the revocation list ended 2049-01-01 00:00 UTC"), "{over:?}");
    }

    #[test]
    fn a_clock_before_the_certificates_is_named_as_the_cause() {
        let pki = Pki::new(Algorithm::Ec).unwrap();
        let findings = found(&pki, &pki.client.cert, 0);
        assert_eq!(names(&findings), [("clock", Level::Error), ("clock", Level::Error)]);
        assert!(findings[0].text.contains("this machine says it is 1970-01-01"), "{findings:?}");
    }

    #[test]
    fn a_certificate_for_the_other_end_and_a_file_that_is_none_are_found() {
        let pki = Pki::new(Algorithm::Ec).unwrap();
        let wrong = found(&pki, &pki.server.cert, 1_800_000_000);
        assert_eq!(names(&wrong), [("certificate-usage", Level::Warning)]);
        let none = found(&pki, &pki.client.key, 1_800_000_000);
        assert_eq!(names(&none), [("certificate-file", Level::Error)]);
    }
}
