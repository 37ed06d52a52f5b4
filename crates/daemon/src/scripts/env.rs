//! The environment of a program.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Largest value that is passed on (SEC-EXEC-1).
const MAX_VALUE: usize = 32 * 1024;

/// Which characters a value keeps; all others become `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharClass {
    /// Names of variables: letters, digits, `_`.
    VariableName,
    /// Common names and user names: letters, digits, `_-.@`.
    Name,
    /// Fields of X.509 names: letters, digits, `_-.@:/=`.
    X509,
    /// Values: everything printable.
    Printable,
}

impl CharClass {
    /// Whether a character is kept. Letters and digits are those of ASCII, and everything outside of ASCII that is no
    /// control character: OpenVPN passes UTF-8 names.
    #[must_use]
    pub fn keeps(self, c: char) -> bool {
        let word = c.is_ascii_alphanumeric() || c == '_';
        let wide = !c.is_ascii() && !c.is_control();
        match self {
            Self::VariableName => word,
            Self::Name => word || wide || matches!(c, '-' | '.' | '@'),
            Self::X509 => word || wide || matches!(c, '-' | '.' | '@' | ':' | '/' | '='),
            Self::Printable => wide || c == ' ' || c.is_ascii_graphic(),
        }
    }

    /// Returns the text with every other character replaced by `_`.
    #[must_use]
    pub fn clean(self, text: &str) -> String {
        text.chars().map(|c| if self.keeps(c) { c } else { '_' }).collect()
    }
}

/// Variables for a program: nothing is inherited.
///
/// Values are wiped when it is dropped: one of them may be a password.
#[derive(Clone, Default)]
pub struct ScriptEnv {
    variables: BTreeMap<String, Zeroizing<String>>,
}

impl std::fmt::Debug for ScriptEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl ScriptEnv {
    /// Returns an empty environment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable. Its name keeps letters, digits and `_`; its value what is printable. A value with NUL or a line
    /// end, or beyond 32 KiB, is left out (SEC-EXEC-1), and an earlier value of that name with it.
    pub fn set(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        let value = Zeroizing::new(value.to_string());
        let name = CharClass::VariableName.clean(name);
        if value.len() > MAX_VALUE || value.contains(['\0', '\n', '\r']) {
            self.variables.remove(&name);
        } else {
            self.variables.insert(name, Zeroizing::new(CharClass::Printable.clean(&value)));
        }
        self
    }

    /// Sets a variable from a common name or user name.
    pub fn set_name(&mut self, name: &str, value: &str) -> &mut Self {
        self.set(name, CharClass::Name.clean(value))
    }

    /// Sets a variable from a field of a certificate.
    pub fn set_x509(&mut self, name: &str, value: &str) -> &mut Self {
        self.set(name, CharClass::X509.clean(value))
    }

    /// Sets a variable, or removes it.
    pub fn set_opt(&mut self, name: &str, value: Option<impl std::fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.set(name, value),
            None => self.remove(name),
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.variables.remove(name);
        self
    }

    /// Removes all variables whose name begins so: `route_`, `foreign_option_`.
    pub fn remove_prefix(&mut self, prefix: &str) -> &mut Self {
        self.variables.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// Adds the variables of another environment; they win.
    pub fn extend(&mut self, other: &Self) -> &mut Self {
        for (name, value) in &other.variables {
            self.variables.insert(name.clone(), value.clone());
        }
        self
    }

    /// Returns a variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }

    /// Returns names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
