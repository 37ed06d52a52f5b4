//! The environment of a program.

use std::{collections::BTreeMap, sync::Arc};

use zeroize::Zeroizing;

/// Largest value that is passed on (SEC-EXEC-1).
const MAX_VALUE: usize = 32 * 1024;

/// Which characters a text keeps; all others become `_`.
///
/// OpenVPN's manual lists narrower classes for names of certificates and users; since 2.3 they hold only under the
/// removed `compat-names` (checked with 2.6.14: blanks, commas and `$` arrive at scripts as they are).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharClass {
    /// Names of variables: letters, digits, `_`.
    VariableName,
    /// Names of files made from common names (`client-config-dir`): letters, digits, `_-.@`.
    FileName,
    /// Everything else: what is printable.
    Printable,
}

impl CharClass {
    /// Whether a character is kept. Letters and digits are those of ASCII; outside of ASCII everything is printable that
    /// is no control character: names are UTF-8.
    #[must_use]
    pub fn keeps(self, c: char) -> bool {
        let word = c.is_ascii_alphanumeric() || c == '_';
        match self {
            Self::VariableName => word,
            Self::FileName => word || matches!(c, '-' | '.' | '@'),
            Self::Printable => !c.is_control(),
        }
    }

    /// Returns the text with every other character replaced by `_`.
    #[must_use]
    pub fn clean(self, text: &str) -> String {
        // With its final size: text that grows leaves copies behind, and one may be a password.
        let mut clean = String::with_capacity(text.len());
        clean.extend(text.chars().map(|c| if self.keeps(c) { c } else { '_' }));
        clean
    }
}

/// Variables for a program: nothing is inherited.
///
/// Values are wiped when it is dropped: one of them may be a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ScriptEnv {
    /// `x509-track`; empty: all fields of a subject.
    tracked: Arc<[String]>,
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

    /// Of certificates only these attributes are set from here on (`x509-track`), each of the whole chain with a `+` in
    /// front, else of the leaf; without any, all fields of the subject are.
    pub fn track(&mut self, attributes: &[String]) -> &mut Self {
        self.tracked = attributes.into();
        self
    }

    /// The attributes that are tracked at this depth; `None`: all fields of the subject.
    pub(super) fn tracked(&self, depth: u8) -> Option<Vec<String>> {
        let here = |name: &String| match name.strip_prefix('+') {
            Some(name) => Some(name.to_owned()),
            None => (depth == 0).then(|| name.clone()),
        };
        (!self.tracked.is_empty()).then(|| self.tracked.iter().filter_map(here).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-EXEC-1
    #[test]
    fn a_value_that_could_be_two_lines_or_is_huge_is_left_out() {
        let mut env = ScriptEnv::new();
        env.set("a", "before").set("b", "kept\u{7}");
        for value in ["x\ny", "x\ry", "x\0y", &"x".repeat(MAX_VALUE + 1)] {
            env.set("a", "before").set("a", value);
            assert_eq!(env.get("a"), None, "not even the value before");
        }
        assert_eq!(env.get("b"), Some("kept_"));
    }

    #[test]
    fn names_of_variables_are_words() {
        let mut env = ScriptEnv::new();
        env.set("X509_0_1.2=3", "x").set("é", "y");
        assert_eq!(env.iter().collect::<Vec<_>>(), [("X509_0_1_2_3", "x"), ("_", "y")]);
    }

    #[test]
    fn what_it_prints_has_no_values() {
        let mut env = ScriptEnv::new();
        env.set("password", "secret");
        assert_eq!(format!("{env:?}"), "{\"password\"}");
    }

    #[test]
    fn names_of_files_cannot_leave_their_directory() {
        assert_eq!(CharClass::FileName.clean("../a b/ü@x-1_2"), ".._a_b__@x-1_2");
    }
}
