//! Cipher suites: `tls-cipher` (OpenSSL's expression or IANA names with dashes) and `tls-ciphersuites`.

use rustls::{SupportedCipherSuite, crypto::aws_lc_rs::cipher_suite as suite};

/// A suite of TLS 1.2.
struct Suite12 {
    openssl: &'static str,
    iana: &'static str,
    /// The keywords of OpenSSL's expressions that mean it.
    keywords: &'static [&'static str],
    suite: SupportedCipherSuite,
}

static TLS_1_2: [Suite12; 6] = [
    Suite12 {
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        iana: "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
        keywords: &["ECDHE", "ECDSA", "AES", "AES256", "AESGCM", "SHA384"],
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Suite12 {
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        iana: "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
        keywords: &["ECDHE", "RSA", "AES", "AES256", "AESGCM", "SHA384"],
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Suite12 {
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        iana: "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
        keywords: &["ECDHE", "ECDSA", "CHACHA20", "SHA256"],
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Suite12 {
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        iana: "TLS-ECDHE-RSA-WITH-CHACHA20-POLY1305-SHA256",
        keywords: &["ECDHE", "RSA", "CHACHA20", "SHA256"],
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Suite12 {
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        iana: "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
        keywords: &["ECDHE", "ECDSA", "AES", "AES128", "AESGCM", "SHA256"],
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Suite12 {
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        iana: "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
        keywords: &["ECDHE", "RSA", "AES", "AES128", "AESGCM", "SHA256"],
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
];

static TLS_1_3: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
];

/// Returns the suites of TLS 1.3, best first, as `--show-tls` lists them.
#[must_use]
pub fn tls_1_3_suites() -> Vec<&'static str> {
    TLS_1_3.iter().map(|(name, _)| *name).collect()
}

/// Returns the suites of TLS 1.2, best first, by their IANA names with dashes.
#[must_use]
pub fn tls_1_2_suites() -> Vec<&'static str> {
    TLS_1_2.iter().map(|suite| suite.iana).collect()
}

/// Both lists together, TLS 1.3 first. `may_be_1_3`: TLS 1.3 is not ruled out; a `tls-cipher` of which nothing is known here
/// then leaves TLS 1.3 alone, on which it has no say. Files of the field name finite-field Diffie-Hellman only, and work with
/// OpenVPN by TLS 1.3.
pub(super) fn select(
    cipher_list: Option<&str>,
    cipher_suites: Option<&str>,
    may_be_1_3: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut suites = match cipher_suites {
        None => TLS_1_3.iter().map(|(_, suite)| *suite).collect(),
        Some(list) => parse_1_3(list, warnings)?,
    };
    let of_1_2 = match cipher_list {
        None => TLS_1_2.iter().collect(),
        Some(list) => parse_1_2(list, warnings),
    };
    if let Some(list) = cipher_list.filter(|_| of_1_2.is_empty()) {
        let known = tls_1_2_suites().join(":");
        let text = format!("no usable cipher suite in `tls-cipher {list}`; known are {known}");
        if !may_be_1_3 {
            return Err(text);
        }
        warnings.push(format!("{text}: peers without TLS 1.3 cannot connect"));
    }
    suites.extend(of_1_2.into_iter().map(|known| known.suite));
    Ok(suites)
}

/// The name in OpenVPN's `Control Channel:` line: `TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384`.
pub(super) fn description(chosen: SupportedCipherSuite) -> String {
    let is_chosen = |known: &SupportedCipherSuite| known.suite() == chosen.suite();
    let of_1_3 =
        TLS_1_3.iter().find(|(_, known)| is_chosen(known)).map(|(name, _)| format!("TLSv1.3 {name}"));
    let of_1_2 = || {
        TLS_1_2.iter().find(|known| is_chosen(&known.suite)).map(|known| format!("TLSv1.2 {}", known.openssl))
    };
    of_1_3.or_else(of_1_2).unwrap_or_else(|| format!("{:?}", chosen.suite()))
}

fn parse_1_3(list: &str, warnings: &mut Vec<String>) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut suites: Vec<SupportedCipherSuite> = Vec::new();
    for name in list.split(':').map(str::trim).filter(|name| !name.is_empty()) {
        let wanted = name.replace('-', "_");
        match TLS_1_3.iter().find(|(known, _)| known.eq_ignore_ascii_case(&wanted)) {
            Some((_, suite)) if !suites.contains(suite) => suites.push(*suite),
            Some(_) => {}
            None => {
                warnings.push(format!("tls-ciphersuites: no TLS 1.3 cipher suite `{name}` here; ignored"))
            }
        }
    }
    if suites.is_empty() {
        let known = tls_1_3_suites().join(":");
        return Err(format!("no usable cipher suite in `tls-ciphersuites {list}`; known are {known}"));
    }
    Ok(suites)
}

/// OpenSSL's expressions: names and keywords, `+` for "and", `!` forever out, `-` out, `+X` to the end, `@…` ignored.
fn parse_1_2(list: &str, warnings: &mut Vec<String>) -> Vec<&'static Suite12> {
    let mut chosen: Vec<&Suite12> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty() && !word.starts_with('@')) {
        let (operator, name) = match word.split_at_checked(1) {
            Some((operator @ ("!" | "-" | "+"), name)) => (operator, name),
            _ => ("", word),
        };
        let matching = || TLS_1_2.iter().filter(move |suite| is_meant(suite, name));
        match operator {
            "!" => {
                banned.extend(matching().map(|suite| suite.openssl));
                chosen.retain(|suite| !is_meant(suite, name));
            }
            "-" => chosen.retain(|suite| !is_meant(suite, name)),
            "+" => chosen.sort_by_key(|suite| is_meant(suite, name)),
            _ => {
                if matching().next().is_none() {
                    unknown.push(name);
                }
                let new = matching().filter(|suite| !banned.contains(&suite.openssl));
                for suite in new {
                    if !chosen.iter().any(|known| known.openssl == suite.openssl) {
                        chosen.push(suite);
                    }
                }
            }
        }
    }
    // Lists of the field name a dozen; where nothing is left of one, its whole is warned about.
    if !unknown.is_empty() && !chosen.is_empty() {
        let names = unknown.join("`, `");
        warnings.push(format!("tls-cipher: no TLS 1.2 cipher suite here matches `{names}`; ignored"));
    }
    chosen
}

/// Whether a name, keyword, or keywords joined by `+` means a suite.
fn is_meant(suite: &Suite12, name: &str) -> bool {
    if name.eq_ignore_ascii_case(suite.openssl) || name.replace('_', "-").eq_ignore_ascii_case(suite.iana) {
        return true;
    }
    name.split('+').all(|keyword| match keyword {
        "DEFAULT" | "ALL" | "HIGH" | "COMPLEMENTOFALL" | "TLSv1.2" | "AEAD" | "FIPS" | "SUITEB128"
        | "SUITEB192" => keyword != "COMPLEMENTOFALL",
        "EECDH" | "kECDHE" | "kEECDH" | "ECDH" => true,
        "aRSA" => suite.keywords.contains(&"RSA"),
        "aECDSA" => suite.keywords.contains(&"ECDSA"),
        // A key exchange by RSA or DH: not here.
        "RSA" | "kRSA" | "DHE" | "EDH" | "kDHE" | "DH" => false,
        keyword => suite.keywords.contains(&keyword),
    })
}
