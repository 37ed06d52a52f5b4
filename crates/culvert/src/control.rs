//! `culvert status`, `watch`, `kill` and `reload`: questions to running processes, over their control sockets.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{print, reload, start::FAILURE};

/// `culvert status [--json] [NAME|PATH]`.
pub(crate) fn status(words: &[String]) -> ExitCode {
    let json = words.iter().any(|word| word == "--json");
    let rest: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "--json").collect();
    match rest[..] {
        [] => report(ask(None, if json { "status" } else { "text" })),
        [name] => report(ask(Some(name), if json { "status" } else { "text" })),
        _ => usage("culvert status [--json] [NAME|PATH]"),
    }
}

/// `culvert watch [NAME|PATH]`.
pub(crate) fn watch(words: &[String]) -> ExitCode {
    match words {
        [] => report(ask(None, "watch")),
        [name] => report(ask(Some(name), "watch")),
        _ => usage("culvert watch [NAME|PATH]"),
    }
}

/// `culvert kill COMMON-NAME [NAME|PATH]`.
pub(crate) fn kill(words: &[String]) -> ExitCode {
    let (client, name) = match words {
        [client] => (client, None),
        [client, name] => (client, Some(name.as_str())),
        _ => return usage("culvert kill COMMON-NAME [NAME|PATH]"),
    };
    report(ask(name, &format!("kill {client}")))
}

/// `culvert reload [NAME|PATH]`, or a file of `writepid`: then a signal does it.
pub(crate) fn reload(words: &[String]) -> ExitCode {
    match words {
        [] => report(ask(None, "reload")),
        [file] if Path::new(file).is_file() => reload::by_signal(file),
        [name] => report(ask(Some(name), "reload")),
        _ => usage("culvert reload [NAME|PATH|PIDFILE]"),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("usage: {text}");
    ExitCode::from(FAILURE)
}

/// Whether the process did what it was asked; what is wrong otherwise was not printed yet.
fn report(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILURE),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Asks, and prints the answer as it comes. `false`: it was an error, or about nobody.
fn ask(name: Option<&str>, question: &str) -> Result<bool, String> {
    let path = find(name, &culvert_daemon::control_directory())?;
    let failed = |failure: io::Error| {
        let hint = match failure.kind() {
            io::ErrorKind::PermissionDenied => "\nhint: only the user that it runs as may ask it: try sudo",
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "\nhint: it does not run any more",
            _ => "",
        };
        format!("cannot ask the process at {}: {failure}{hint}", path.display())
    };
    let mut stream = UnixStream::connect(&path).map_err(failed)?;
    stream.write_all(format!("{question}\n").as_bytes()).map_err(failed)?;
    let mut good = true;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(failed)?;
        good &= !(line.starts_with(r#"{"error""#) || line == r#"{"killed":0}"#);
        print(&format!("{line}\n"));
    }
    Ok(good)
}

/// The sockets of the processes that run in this network namespace.
pub(crate) fn running(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut sockets: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        // A process that was killed left its own behind.
        .filter(|path| {
            !UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        })
        .collect();
    sockets.sort();
    sockets
}

/// Finds the socket: a path, a name in the directory, or the only one that is there.
fn find(name: Option<&str>, directory: &Path) -> Result<PathBuf, String> {
    match name {
        Some(path) if path.contains('/') => return Ok(path.into()),
        Some(name) => return Ok(directory.join(format!("{}.sock", name.trim_end_matches(".sock")))),
        None => {}
    }
    let sockets = running(directory);
    let names = || {
        let stems = sockets.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy());
        stems.collect::<Vec<_>>().join(", ")
    };
    match &sockets[..] {
        [] => Err(format!(
            "no culvert runs in this network namespace (nothing in {})\nhint: name the socket if `control-socket` moved it",
            directory.display()
        )),
        [only] => Ok(only.clone()),
        _ => Err(format!("several run here: {}\nhint: name the one you mean", names())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_only_socket_needs_no_name() {
        let directory = std::env::temp_dir().join(format!("culvert-control-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert!(find(None, &directory).unwrap_err().contains("no culvert runs"));
        drop(UnixListener::bind(directory.join("dead.sock")).unwrap());
        let _a = UnixListener::bind(directory.join("a.sock")).unwrap();
        assert_eq!(find(None, &directory).unwrap(), directory.join("a.sock"));
        let _b = UnixListener::bind(directory.join("b.sock")).unwrap();
        assert!(find(None, &directory).unwrap_err().contains("several run here: a, b"));
        assert_eq!(find(Some("b"), &directory).unwrap(), directory.join("b.sock"));
        assert_eq!(find(Some("./x"), &directory).unwrap(), Path::new("./x"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
