//! The stages of a start, in OpenVPN's order, on which wrappers, installers and configuration checkers rely:
//!
//! 1. syntax: the whole command line and every file it names;
//! 2. questions: answered here, the process ends;
//! 3. meaning: contradictions, companions, files;
//! 4. the version line: the configuration was accepted. That, and all that follows, is the daemon's.
//!
//! The first log destination that was named holds for all of them.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use culvert_config::{
    Access, Configuration, Diagnostic, Disk, Files, Parsed, Profile, Severity, profile, render_all,
};
use culvert_daemon::{
    Startup,
    log::{LogConfig, Logger},
    ovlog,
};

use crate::answers;

/// Exit status of every failure.
pub(crate) const FAILURE: u8 = 1;

/// Runs OpenVPN's command line.
pub(crate) fn start(arguments: &[String]) -> ExitCode {
    let files = Arc::new(StartDirectory::here());
    let shared: Arc<dyn Files + Send + Sync> = Arc::<StartDirectory>::clone(&files);
    let configuration = Arc::new(Configuration::new(arguments.to_vec(), shared));
    let mut parsed = configuration.parse();
    let logger = match open_log(&parsed) {
        Ok(logger) => logger,
        Err(code) => return code,
    };
    log_diagnostics(&std::mem::take(&mut parsed.warnings));
    if !parsed.errors.is_empty() {
        return refuse(&logger, &parsed.errors);
    }
    if let Some(question) = parsed.question.take() {
        return answers::answer(&question, &parsed, &logger);
    }
    match check(parsed, &files, &logger) {
        Ok(profile) => run(profile, logger, configuration, &files),
        Err(code) => code,
    }
}

/// Stage 3, and the change of directory that it has checked.
fn check(parsed: Parsed, files: &StartDirectory, logger: &Logger) -> Result<Profile, ExitCode> {
    let directory = parsed.effects.directory().cloned();
    let checked = parsed.check(files);
    log_diagnostics(&checked.notes);
    if !checked.errors.is_empty() {
        return Err(refuse(logger, &checked.errors));
    }
    if let Some(directory) = directory {
        let directory = files.absolute(&directory);
        if let Err(error) = std::env::set_current_dir(&directory) {
            logger.plain_error(&format!("Options error: cd to '{}' failed: {error}", directory.display()));
            return Err(ExitCode::from(FAILURE));
        }
    }
    Ok(checked.profile)
}

/// Stage 4 and the rest of the process's life.
fn run(
    profile: Profile,
    logger: Logger,
    configuration: Arc<Configuration>,
    files: &StartDirectory,
) -> ExitCode {
    let (log, again) = (logger.clone(), Arc::clone(&configuration));
    let reload = move || {
        let mut parsed = again.parse();
        log_diagnostics(&std::mem::take(&mut parsed.warnings));
        if !parsed.errors.is_empty() {
            refuse(&log, &parsed.errors);
            return None;
        }
        check(parsed, files, &log).ok()
    };
    let exit = culvert_daemon::run(Startup { profile, logger, reload: &reload, configuration });
    ExitCode::from(exit.status())
}

/// Opens the log where parsing said. Before anything is printed: errors of the first stage go there, too.
fn open_log(parsed: &Parsed) -> Result<Logger, ExitCode> {
    let log = profile::Log { destination: parsed.effects.log(), ..parsed.profile().log.clone() };
    Logger::install(LogConfig::from(&log)).map_err(|error| {
        eprintln!("Options error: {error}");
        ExitCode::from(FAILURE)
    })
}

/// Prints errors as they are, without time stamps.
fn refuse(logger: &Logger, errors: &[Diagnostic]) -> ExitCode {
    logger.plain_error(render_all(errors).trim_end());
    ExitCode::from(FAILURE)
}

/// Logs notes and warnings: OpenVPN's line, then what explains it, where there is more to say.
fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let lines = [Some(diagnostic.openvpn_line.clone()), reason(diagnostic)];
        for line in lines.into_iter().flatten() {
            match (diagnostic.severity, diagnostic.verb) {
                (Severity::Note, 0..=1) => ovlog!(1, "{line}"),
                (Severity::Note, _) => ovlog!(3, "{line}"),
                (Severity::Warning | Severity::Error, _) => ovlog!(warn 1, "{line}"),
            }
        }
    }
}

/// Place, reason and remedy on one line: the log is no place for pictures.
fn reason(diagnostic: &Diagnostic) -> Option<String> {
    let place = diagnostic.origin.as_ref().map(|origin| format!("{}:{}: ", origin.file, origin.line));
    let text = [diagnostic.explanation.as_str(), diagnostic.remedy.as_str()];
    let text: Vec<&str> = text.into_iter().filter(|text| !text.is_empty()).collect();
    (!text.is_empty()).then(|| format!("  {}{}", place.unwrap_or_default(), text.join("; ")))
}

/// The machine's files, relative names meaning the directory of the start: `cd` must not move them at a reload.
pub(crate) struct StartDirectory(PathBuf);

impl StartDirectory {
    /// Remembers the present directory.
    pub(crate) fn here() -> Self {
        Self(std::env::current_dir().unwrap_or_default())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
}

impl Files for StartDirectory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(&self.absolute(path))
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        Disk.read_stdin()
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        Disk.probe(&self.absolute(path), access)
    }

    fn is_open_to_others(&self, path: &Path) -> bool {
        Disk.is_open_to_others(&self.absolute(path))
    }
}
