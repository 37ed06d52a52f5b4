//! What somebody may have meant.

use crate::table::{self, CCD, CONFIG, CONNECTION, INLINE, OptionRow, PUSH, Status};

/// Returns explanation and remedy for an option that is not recognised.
pub(crate) fn unrecognized(name: &str, row: Option<&OptionRow>) -> (String, String) {
    let Some(row) = row else {
        let remedy = match nearest(name) {
            Some(near) => format!("did you mean `{near}`? Else remove it"),
            None => format!("remove it, or write `ignore-unknown-option {name}` before it"),
        };
        return ("no option has this name".to_owned(), remedy);
    };
    match row.status {
        Status::Gone(remedy) => ("OpenVPN does not have this option".to_owned(), remedy.to_owned()),
        Status::WindowsOnly => (
            "only OpenVPN on Windows has this option".to_owned(),
            format!("remove it, or write `setenv opt {name}` or `ignore-unknown-option {name}`"),
        ),
        _ => (format!("`{}` takes {}", row.name, arguments(row)), format!("write `{}`", usage(row))),
    }
}

/// Returns an option with its arguments.
pub(crate) fn usage(row: &OptionRow) -> String {
    format!("{} {}", row.name, row.args).trim_end().to_owned()
}

fn arguments(row: &OptionRow) -> String {
    match row.arity {
        (0, 0) => "no argument".to_owned(),
        (1, 1) => "one argument".to_owned(),
        (min, max) if min == max => format!("{min} arguments"),
        (min, table::MOST) => format!("at least {min} arguments"),
        (min, max) => format!("{min} to {max} arguments"),
    }
}

/// Says where an option may stand.
pub(crate) fn where_it_stands(row: &OptionRow) -> String {
    let places = [
        (CONFIG, "in configuration files and on the command line"),
        (CONNECTION, "in `<connection>` blocks"),
        (INLINE, "as an inline block"),
        (PUSH, "in what a server pushes"),
        (CCD, "in files per client"),
    ];
    let places: Vec<_> =
        places.iter().filter(|(context, _)| row.contexts.has(*context)).map(|(_, text)| *text).collect();
    format!("`{}` stands {}", row.name, places.join(", "))
}

/// Returns the option whose name is nearest, if it is near enough.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let limit = (name.chars().count() / 3).clamp(1, 3);
    table::table()
        .filter(|row| row.is_known())
        .map(|row| (distance(&name, row.name, limit + 1), row.name))
        .min()
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, name)| name)
}

/// Counts the changes that make one word of another, a swap of neighbours being one; more than `most` is `most`.
fn distance(from: &str, to: &str, most: usize) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) >= most {
        return most;
    }
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(most);
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut new = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (at(&old, j) + usize::from(a != b)).min(at(&old, j + 1) + 1).min(at(&new, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&older, j - 1) + 1);
            }
            new.push(best);
        }
        older = std::mem::replace(&mut old, new);
    }
    at(&old, to.len()).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("keepalvie"), Some("keepalive"));
        assert_eq!(nearest("persist_tun"), Some("persist-tun"));
        assert_eq!(nearest("ciper"), Some("cipher"));
        assert_eq!(nearest("tls-auht"), Some("tls-auth"));
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest(""), None);
    }
}
