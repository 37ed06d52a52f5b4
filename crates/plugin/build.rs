//! Compiles the one function of this crate that Rust cannot express: a variadic one.

fn main() {
    println!("cargo::rerun-if-changed=src/log.c");
    cc::Build::new().file("src/log.c").warnings_into_errors(true).compile("culvert_plugin_log");
}
