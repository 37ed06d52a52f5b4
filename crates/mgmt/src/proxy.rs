use culvert_config::value::Port;

/// What `proxy` chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyChoice {
    /// `NONE`: straight to the server.
    None,
    /// `HTTP HOST PORT [nct]`.
    Http {
        /// Name or address.
        host: String,
        /// The port.
        port: Port,
        /// Whether a password may go to it in clear text; with `nct` it may not.
        clear_text: bool,
    },
    /// `SOCKS HOST PORT`.
    Socks {
        /// Name or address.
        host: String,
        /// The port.
        port: Port,
    },
}

impl ProxyChoice {
    /// Reads the words after `proxy`; `None`: they make no sense. Words beyond are left alone, as by OpenVPN.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["NONE", ..] => Some(Self::None),
            ["HTTP", host, port, ref rest @ ..] if !host.is_empty() => {
                let clear_text = rest.first() != Some(&"nct");
                Some(Self::Http { host: host.to_owned(), port: port_of(port)?, clear_text })
            }
            ["SOCKS", host, port, ..] if !host.is_empty() => {
                Some(Self::Socks { host: host.to_owned(), port: port_of(port)? })
            }
            _ => None,
        }
    }
}

/// A number, or the name of a service.
fn port_of(word: &str) -> Option<Port> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return word.parse().ok().filter(|&number: &u16| number > 0).map(Port::Number);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!word.is_empty() && word.chars().all(is_name)).then(|| Port::Service(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str) -> Option<ProxyChoice> {
        ProxyChoice::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_of_proxy_choose() {
        let (host, port) = ("proxy.example".to_owned(), Port::Number(3128));
        assert_eq!(choice("NONE"), Some(ProxyChoice::None));
        assert_eq!(
            choice("HTTP proxy.example 3128"),
            Some(ProxyChoice::Http { host: host.clone(), port: port.clone(), clear_text: true })
        );
        assert_eq!(
            choice("HTTP proxy.example 3128 nct"),
            Some(ProxyChoice::Http { host: host.clone(), port, clear_text: false })
        );
        let port = Port::Service("socks".to_owned());
        assert_eq!(choice("SOCKS proxy.example socks"), Some(ProxyChoice::Socks { host, port }));
        for nonsense in
            ["", "HTTP", "HTTP proxy.example", "SOCKS a 0", "SOCKS a 99999", "SOCKS a b/c", "http a 1"]
        {
            assert_eq!(choice(nonsense), None, "{nonsense}");
        }
    }
}
