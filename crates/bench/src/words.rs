//! Reading a command line.

use crate::BenchError;

/// The words of a command line, one after the other.
pub(crate) struct Words<'a> {
    words: std::slice::Iter<'a, String>,
    /// The help that applies.
    help: &'static str,
    option: String,
    /// The value of an option that was written with `=`.
    attached: Option<String>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [String], help: &'static str) -> Self {
        Self { words: words.iter(), help, option: String::new(), attached: None }
    }

    /// Returns the next word; of `--option=value`, the option.
    ///
    /// # Errors
    /// When the last option had a value that nobody wanted.
    pub(crate) fn next_option(&mut self) -> Result<Option<String>, BenchError> {
        if self.attached.is_some() {
            return Err(self.usage(format!("{} takes no value", self.option)));
        }
        let Some(word) = self.words.next() else { return Ok(None) };
        let (option, attached) = match word.split_once('=').filter(|_| word.starts_with("--")) {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        self.attached = attached;
        self.option.clone_from(&option);
        Ok(Some(option))
    }

    /// The value of the option.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn value(&mut self) -> Result<String, BenchError> {
        let value = self.attached.take().or_else(|| self.words.next().cloned());
        value.ok_or_else(|| self.usage(format!("{} needs a value", self.option)))
    }

    /// The value of the option, understood by `read`.
    ///
    /// # Errors
    /// When there is none, or `read` refuses it.
    pub(crate) fn value_as<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T, BenchError> {
        let value = self.value()?;
        read(&value).ok_or_else(|| self.usage(format!("{} cannot be `{value}`", self.option)))
    }

    /// The value of the option, one of these.
    ///
    /// # Errors
    /// When there is none, or another.
    pub(crate) fn one_of<T: Copy>(&mut self, known: &[(&str, T)]) -> Result<T, BenchError> {
        self.value_as(|value| known.iter().find(|(name, _)| *name == value).map(|(_, meaning)| *meaning))
    }

    /// The error that the present word deserves.
    pub(crate) fn unknown(&self) -> BenchError {
        self.usage(format!("there is no `{}` here", self.option))
    }

    fn usage(&self, what: String) -> BenchError {
        BenchError::Usage { what, hint: self.help.trim_end().to_owned() }
    }
}
