//! The arguments of one option, and how they become values. The wording of what is wrong with them is OpenVPN's.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use crate::{
    lexer::{self, Word},
    value::{Command, FileOrInline, KeyDirection, Net4, Net6, Port, SecretText},
};

/// What is wrong with an option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    /// OpenVPN's text, without `Options error: `.
    pub(crate) text: String,
    /// The argument to point at, from 0; the name when there is none.
    pub(crate) argument: Option<usize>,
    /// More about it.
    pub(crate) explanation: String,
    /// What to do.
    pub(crate) remedy: String,
    /// Whether OpenVPN prints the text without `Options error: `.
    pub(crate) bare: bool,
    /// Whether OpenVPN takes the word now and fails later: the error belongs to the meaning, not to the syntax.
    pub(crate) late: bool,
    /// Whether OpenVPN says that it does not recognise the option; the text is then empty.
    pub(crate) unrecognized: bool,
}

/// The result of taking an option.
pub(crate) type Set = Result<(), Problem>;

/// Makes a problem of OpenVPN's text.
pub(crate) fn problem(text: impl Into<String>) -> Problem {
    Problem { text: text.into(), ..Problem::default() }
}

impl Problem {
    /// An option that OpenVPN does not recognise in this form.
    pub(crate) fn unrecognized() -> Self {
        Self { unrecognized: true, ..Self::default() }
    }

    /// Points at an argument.
    pub(crate) fn at(mut self, argument: usize) -> Self {
        self.argument = Some(argument);
        self
    }

    /// Makes it an error of the meaning.
    pub(crate) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    /// Says what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Says more about it.
    pub(crate) fn explain(mut self, explanation: impl Into<String>) -> Self {
        self.explanation = explanation.into();
        self
    }
}

/// The arguments of one option; their number was already checked against the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<'a> {
    /// The option's name.
    pub(crate) name: &'a str,
    /// The words after it.
    pub(crate) words: &'a [Word],
    /// The content of an inline block; `words` is then empty.
    pub(crate) inline: Option<&'a SecretText>,
}

impl<'a> Args<'a> {
    /// Returns how many arguments there are; a block counts as one.
    pub(crate) fn len(&self) -> usize {
        self.words.len() + usize::from(self.inline.is_some())
    }

    /// Returns an argument, if it is there.
    pub(crate) fn get(&self, index: usize) -> Option<&'a str> {
        match self.inline {
            Some(text) => (index == 0).then(|| text.expose()),
            None => self.words.get(index).map(|word| word.text.as_str()),
        }
    }

    /// Returns an argument that the row requires; empty should it be missing all the same.
    pub(crate) fn str(&self, index: usize) -> &'a str {
        self.get(index).unwrap_or_default()
    }

    /// Returns an argument as a string.
    pub(crate) fn string(&self, index: usize) -> String {
        self.str(index).to_owned()
    }

    /// Returns an argument as a path.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        PathBuf::from(self.str(index))
    }

    /// Returns all arguments from `index` on.
    pub(crate) fn rest(&self, index: usize) -> Vec<String> {
        self.words.iter().skip(index).map(|word| word.text.clone()).collect()
    }

    /// Returns the file or the inline block.
    pub(crate) fn material(&self) -> FileOrInline {
        match self.inline {
            Some(text) => FileOrInline::Inline(text.clone()),
            None => FileOrInline::File(self.path(0)),
        }
    }

    /// Returns a number of at least 0 (OpenVPN's `positive_atoi`).
    pub(crate) fn number(&self, index: usize) -> Result<u32, Problem> {
        let text = self.str(index);
        integer(text).and_then(|n| i32::try_from(n).ok()).and_then(|n| u32::try_from(n).ok()).ok_or_else(
            || problem(format!("Cannot parse argument '{text}' as non-negative integer")).at(index),
        )
    }

    /// Returns a number of at least 0, if it is there.
    pub(crate) fn number_opt(&self, index: usize) -> Result<Option<u32>, Problem> {
        self.get(index).map(|_| self.number(index)).transpose()
    }

    /// Returns a number of 64 bit (OpenVPN's `positive_atoll`).
    pub(crate) fn long(&self, index: usize) -> Result<u64, Problem> {
        let (name, text) = (self.name, self.str(index));
        integer(text).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| {
            problem(format!("{name}: Cannot parse '{text}' as non-negative integer")).at(index)
        })
    }

    /// Returns a number of any sign (OpenVPN's `atoi_warn`).
    pub(crate) fn signed(&self, index: usize) -> Result<i32, Problem> {
        let text = self.str(index);
        integer(text)
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(|| problem(format!("Cannot parse argument '{text}' as integer")).at(index))
    }

    /// Returns a number within bounds (OpenVPN's `atoi_constrained`), which `what` names.
    pub(crate) fn within(
        &self,
        index: usize,
        what: &str,
        range: RangeInclusive<i32>,
    ) -> Result<u32, Problem> {
        let text = self.str(index);
        let number = integer(text)
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(|| problem(format!("{what}: Cannot parse '{text}' as integer")).at(index))?;
        let (min, max) = (*range.start(), *range.end());
        match u32::try_from(number) {
            Ok(n) if range.contains(&number) => Ok(n),
            _ if max == i32::MAX => {
                Err(problem(format!("{what}: Must be an integer >= {min}, not {number}")).at(index))
            }
            _ => Err(problem(format!("{what}: Must be an integer between {min} and {max}, not {number}"))
                .at(index)),
        }
    }

    /// Returns a time in seconds.
    pub(crate) fn secs(&self, index: usize) -> Result<Duration, Problem> {
        Ok(Duration::from_secs(self.number(index)?.into()))
    }

    /// Returns what a word stands for; `wrong` makes OpenVPN's text when it stands for nothing.
    pub(crate) fn one_of<T: Copy>(
        &self,
        index: usize,
        choices: &[(&str, T)],
        wrong: impl FnOnce(&str) -> String,
    ) -> Result<T, Problem> {
        let word = self.str(index);
        choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> =
                choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            problem(wrong(word)).at(index).remedy(format!("write one of: {}", names.join(", ")))
        })
    }

    /// Returns a port: a number or a service name.
    pub(crate) fn port(&self, index: usize) -> Result<Port, Problem> {
        let text = self.str(index);
        match text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            true => text.parse().map(Port::Number).map_err(|_| {
                problem(format!("Bad port number: {text}"))
                    .at(index)
                    .remedy("write a number from 0 to 65535")
                    .late()
            }),
            false
                if !text.is_empty()
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+/".contains(&b)) =>
            {
                Ok(Port::Service(text.to_owned()))
            }
            false => Err(problem(format!("Bad port number: {text}")).at(index).late()),
        }
    }

    /// Returns an external program, its arguments split off. `most` is the number of arguments that the option takes.
    pub(crate) fn command(&self, most: usize) -> Result<Command, Problem> {
        if self.words.len() > most {
            let plural = if most >= 2 { "s" } else { "" };
            return Err(problem(format!(
                "the --{} directive should have at most {most} parameter{plural}.  To pass a list of arguments as one of \
                 the parameters, try enclosing them in double quotes (\"\").",
                self.name
            ))
            .at(most));
        }
        let text = self.str(0);
        let argv: Vec<String> =
            lexer::split(text).unwrap_or_default().into_iter().map(|word| word.text).collect();
        match argv.is_empty() {
            true => {
                Err(problem(format!("--{} script fails with '{text}': No path to executable.", self.name))
                    .at(0))
            }
            false => Ok(Command { argv }),
        }
    }

    /// Returns an IPv4 address.
    pub(crate) fn v4(&self, index: usize) -> Option<Ipv4Addr> {
        self.str(index).parse().ok()
    }

    /// Returns an IPv4 address; a prefix length behind it is read and has no effect, as in OpenVPN's `get_ip_addr`.
    pub(crate) fn v4_of_prefix(&self, index: usize) -> Option<Ipv4Addr> {
        let (address, bits) = self.str(index).split_once('/').unwrap_or((self.str(index), "0"));
        integer(bits).filter(|bits| (0..=32).contains(bits))?;
        address.parse().ok()
    }

    /// Returns an IPv6 address.
    pub(crate) fn v6(&self, index: usize) -> Option<Ipv6Addr> {
        self.str(index).parse().ok()
    }

    /// Returns an IPv6 address with its prefix length; 64 when there is none, as in OpenVPN's `get_addr_generic`.
    pub(crate) fn net6(&self, index: usize) -> Option<Net6> {
        let (address, bits) = match self.str(index).split_once('/') {
            Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, bits.parse().ok()?)
            }
            Some(_) => return None,
            None => (self.str(index), 64),
        };
        (bits <= 128).then_some(Net6 { address: address.parse().ok()?, bits })
    }

    /// Returns the half of a static key.
    pub(crate) fn direction(&self, index: usize) -> Result<KeyDirection, Problem> {
        self.one_of(index, &[("0", KeyDirection::Normal), ("1", KeyDirection::Inverse)], |word| {
            format!("Unknown key direction '{word}' -- must be '0' or '1'")
        })
    }
}

/// Reads a decimal number as C's `strtoll` does, the whole word.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(lexer::is_blank);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Returns the network of an address and a netmask; `None` when the mask has holes.
pub(crate) fn network(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Net4> {
    let bits = u32::from(mask);
    (bits.count_ones() == bits.leading_ones())
        .then(|| u8::try_from(bits.leading_ones()).ok().map(|bits| Net4 { address, bits }))
        .flatten()
}

/// Returns whether a name consists of the characters of host names and domains only (SEC-OPT-2).
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_' | '-')
                || (!c.is_ascii() && c.is_alphanumeric())
        })
}
