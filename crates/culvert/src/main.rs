//! OpenVPN with data channel offload: the command line. Every mode is a line of [`main`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

use culvert_config::{Disk, Profile, parse, render_all};
use culvert_daemon::{
    Startup,
    log::{LogConfig, Logger},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let files = Disk;
    let Some(profile) = load(&arguments, &files) else { return ExitCode::from(1) };
    let logger = match Logger::install(LogConfig::from(&profile.log)) {
        Ok(logger) => logger,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(1);
        }
    };
    let reload = || load(&arguments, &files);
    ExitCode::from(culvert_daemon::run(Startup { profile, logger, reload: &reload }).status())
}

/// Reads the command line and the files it names; prints what is wrong.
fn load(arguments: &[String], files: &Disk) -> Option<Profile> {
    let parsed = parse(arguments, files);
    if !parsed.errors.is_empty() {
        println!("{}", render_all(&parsed.errors));
        return None;
    }
    let checked = parsed.check(files);
    if !checked.errors.is_empty() {
        println!("{}", render_all(&checked.errors));
        return None;
    }
    Some(checked.profile)
}
