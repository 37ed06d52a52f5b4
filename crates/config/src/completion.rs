//! Completions for shells, made from the table: `culvert help --completion SHELL`.

use std::fmt::Write as _;

use crate::{
    man::Subcommand,
    table::{Group, OptionRow, table},
};

/// A shell that completions can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the shells' own names")]
pub enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bash, Self::Fish, Self::Zsh];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Fish => "fish",
            Self::Zsh => "zsh",
        }
    }
}

/// What the first argument of an option can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    /// There is none.
    None,
    /// One of these words.
    Words(Vec<&'static str>),
    /// A file or a directory.
    Path,
    /// Nothing that could be known.
    Free,
}

/// Returns the completions for a shell.
pub fn completion(shell: Shell, commands: &[Subcommand]) -> String {
    match shell {
        Shell::Bash => bash(commands),
        Shell::Fish => fish(commands),
        Shell::Zsh => zsh(commands),
    }
}

/// Commands whose words are files, options, or both.
const OF_FILES: [&str; 4] = ["check", "doctor", "passwd", "reload"];

fn rows() -> impl Iterator<Item = &'static OptionRow> {
    table().filter(|row| row.is_known() && row.group != Group::Legacy)
}

/// Reads the usage of an option: `FILE|[inline]`, `udp|tcp`, `[N]`.
fn argument(row: &OptionRow) -> Argument {
    let Some(first) = row.args.split(' ').next().filter(|first| !first.is_empty()) else {
        return Argument::None;
    };
    let first = first.trim_matches(['[', ']']);
    let is_word = |word: &&str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
    };
    let words: Vec<&'static str> = first.split('|').filter(is_word).collect();
    let path = first
        .split('|')
        .any(|word| ["FILE", "DIR", "PATH", "CMD", "PROGRAM", "MODULE", "NODE"].contains(&word));
    match (path, words.is_empty()) {
        (true, _) => Argument::Path,
        (false, false) => Argument::Words(words),
        (false, true) => Argument::Free,
    }
}

fn words(names: impl Iterator<Item = &'static str>, prefix: &str) -> String {
    names.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join(" ")
}

fn bash(commands: &[Subcommand]) -> String {
    let mut cases = String::new();
    for row in rows() {
        let words = match argument(row) {
            Argument::Words(words) => words.join(" "),
            // Nothing here: readline completes names of files.
            Argument::Path | Argument::None => continue,
            // Nothing at all: the word is the user's.
            Argument::Free => String::new(),
        };
        match words.as_str() {
            "" => {}
            words => {
                let _ = writeln!(
                    cases,
                    "        --{}) mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$word\"); return ;;",
                    row.name
                );
            }
        }
    }
    let files: Vec<&str> = rows().filter(|row| argument(row) == Argument::Path).map(|row| row.name).collect();
    format!(
        "# Completions for culvert in bash, made from the option table by `culvert help --completion bash`.\n\
         _culvert() {{\n\
         \x20   local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}\n\
         \x20   COMPREPLY=()\n\
         \x20   case $before in\n\
         {cases}\
         \x20       --{files}) return ;; # a file\n\
         \x20   esac\n\
         \x20   if [[ $word == -* ]]; then\n\
         \x20       mapfile -t COMPREPLY < <(compgen -W '{options}' -- \"$word\")\n\
         \x20   elif [[ $COMP_CWORD -eq 1 ]]; then\n\
         \x20       mapfile -t COMPREPLY < <(compgen -W '{commands}' -- \"$word\")\n\
         \x20   elif [[ $COMP_CWORD -eq 2 && ${{COMP_WORDS[1]}} == help ]]; then\n\
         \x20       mapfile -t COMPREPLY < <(compgen -W '{names}' -- \"$word\")\n\
         \x20   fi\n\
         }}\n\
         # Where nothing is found, readline completes names of files: a configuration is one.\n\
         complete -o default -F _culvert culvert\n",
        files = files.join("|--"),
        options = words(rows().map(|row| row.name), "--"),
        commands = words(commands.iter().map(|command| command.name), ""),
        names = words(rows().map(|row| row.name), ""),
    )
}

fn fish(commands: &[Subcommand]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut text = String::from(
        "# Completions for culvert in fish, made from the option table by `culvert help --completion fish`.\n",
    );
    for command in commands {
        let _ = writeln!(
            text,
            "complete -c culvert -n __fish_use_subcommand -a {} -d '{}'",
            command.name,
            quoted(command.help)
        );
    }
    for row in rows() {
        let argument = match argument(row) {
            Argument::None => String::new(),
            Argument::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            Argument::Path => " -r -F".to_owned(),
            Argument::Free => " -x".to_owned(),
        };
        let _ = writeln!(text, "complete -c culvert -l {}{argument} -d '{}'", row.name, quoted(row.help));
    }
    let names = words(rows().map(|row| row.name), "");
    let _ = writeln!(text, "complete -c culvert -n '__fish_seen_subcommand_from help' -f -a '{names}'");
    text
}

fn zsh(commands: &[Subcommand]) -> String {
    let quoted =
        |text: &str| text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let mut text = String::from(
        "#compdef culvert\n# Completions for culvert in zsh, made from the option table by `culvert help --completion zsh`.\n\
         _culvert() {\n    local -a commands options\n    commands=(\n",
    );
    for command in commands {
        let _ = writeln!(text, "        '{}:{}'", command.name, quoted(command.help));
    }
    text.push_str("    )\n    options=(\n");
    for row in rows() {
        let argument = match argument(row) {
            Argument::None => String::new(),
            Argument::Words(words) => format!(":{}:({})", row.name, words.join(" ")),
            Argument::Path => format!(":{}:_files", row.name),
            Argument::Free => format!(":{}:", row.name),
        };
        let _ = writeln!(text, "        '*--{}[{}]{argument}'", row.name, quoted(row.help));
    }
    let names = words(rows().map(|row| row.name), "");
    let _ = write!(
        text,
        "    )\n\
         \x20   if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then\n\
         \x20       _describe command commands\n\
         \x20       _files\n\
         \x20   elif (( CURRENT == 3 )) && [[ $words[2] == help ]]; then\n\
         \x20       compadd -- {names}\n\
         \x20   elif [[ $words[2] == ({files}) ]]; then\n\
         \x20       shift words; (( CURRENT-- ))\n\
         \x20       _arguments -S $options '*:file:_files'\n\
         \x20   else\n\
         \x20       _arguments -S $options '*:file:_files'\n\
         \x20   fi\n\
         }}\n\
         _culvert \"$@\"\n",
        files = OF_FILES.join("|"),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn the_usage_of_an_option_tells_what_to_complete() {
        let of = |name: &str| argument(find(name).unwrap());
        assert_eq!(of("client"), Argument::None);
        assert_eq!(of("ca"), Argument::Path);
        assert_eq!(of("verb"), Argument::Free);
        assert!(matches!(of("dev-type"), Argument::Words(words) if words == ["tun", "tap"]));
    }

    #[test]
    fn every_shell_knows_every_option_and_every_command() {
        let commands = [Subcommand { name: "check", arguments: "FILE", help: "it's [good]" }];
        for shell in Shell::ALL {
            let text = completion(shell, &commands);
            assert!(text.contains("check"), "{text}");
            for row in rows() {
                let dashes = if shell == Shell::Fish {
                    format!(" -l {} ", row.name)
                } else {
                    format!("--{}", row.name)
                };
                assert!(text.contains(&dashes), "{}: {}", shell.name(), row.name);
            }
        }
        assert!(completion(Shell::Zsh, &commands).contains(r"'check:it'\''s \[good\]'"));
        assert!(completion(Shell::Fish, &commands).contains(r"-d 'it\'s [good]'"));
    }
}
