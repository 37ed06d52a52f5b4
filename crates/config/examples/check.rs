//! Reads a command line as `culvert` does and prints what OpenVPN would before its version line, and the verdict.
//!
//! `cargo run -p culvert-config --example check -- --config server.conf`

use std::{env, process::ExitCode};

use culvert_config::{Disk, parse, render_all, title, verdict};

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let parsed = parse(&args, &Disk);
    println!("{:?}", parsed.effects);
    print!("{}{}", render_all(&parsed.warnings), render_all(&parsed.errors));
    if !parsed.errors.is_empty() {
        return ExitCode::FAILURE;
    }
    if let Some(question) = parsed.question {
        println!("{question:?}");
        return ExitCode::SUCCESS;
    }
    let checked = parsed.check(&Disk);
    print!("{}{}", render_all(&checked.notes), render_all(&checked.errors));
    if !checked.errors.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("{}", title());
    for verdict in verdict(&checked.profile) {
        println!("{verdict:#?}");
    }
    ExitCode::SUCCESS
}
