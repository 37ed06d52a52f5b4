//! `culvert unblock [--force]`: lifts a kill switch that outlived its culvert, without any other program.

use std::process::ExitCode;

use culvert_host::KillSwitch;

use crate::{print, start::FAILURE};

/// Does it; 0: none is in force any more.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match lift(arguments) {
        Ok(text) => {
            print(text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(FAILURE)
        }
    }
}

fn lift(arguments: &[String]) -> Result<&'static str, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let force = match *words {
        [] => false,
        ["--force"] => true,
        _ => return Err("`culvert unblock` takes no words but --force".to_owned()),
    };
    let failed = |failure| format!("{failure}\nhint: run it as root, in the network namespace of the tunnel");
    let mut switch = KillSwitch::open().map_err(failed)?;
    if !switch.stands().map_err(failed)? {
        return Ok("no kill switch is in force here\n");
    }
    if !force && KillSwitch::is_held() {
        return Err(
            "the kill switch is that of a culvert that runs here\nhint: stop it, which lifts the switch; or \
                    `culvert unblock --force`"
                .to_owned(),
        );
    }
    switch.lift().map_err(failed)?;
    Ok("the kill switch is lifted: this machine sends outside of a tunnel again\n")
}
