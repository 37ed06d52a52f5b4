//! Another process: this program, started once more in the calling thread's namespace.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use culvert_offload::{Backend as _, DeviceMode, DeviceSpec, LinuxBackend, conformance};

use crate::lab::run;

/// What the process shall do: the name of the device to open.
const JOB: &str = "CULVERT_TEST_DEVICE";

/// What stands before the line that it says.
const SAYS: &str = "helper says: ";

/// A device for many peers.
pub(crate) fn named(name: &str) -> DeviceSpec {
    DeviceSpec { name: Some(name.to_owned()), ..conformance::device(DeviceMode::MultiPeer) }
}

/// A running process that opened a device, or could not.
pub(crate) struct Helper {
    child: Child,
    /// "opened", or the error and the devices of its namespace.
    pub(crate) said: String,
}

impl Helper {
    /// Starts it, through another program if need be.
    pub(crate) fn start(through: &[&str], device: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let test = ["--exact", "helper::a_process_holds_a_device", "--ignored", "--nocapture"];
        let mut words = through.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        words.push(program.to_string_lossy().into_owned());
        words.extend(test.map(str::to_owned));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env(JOB, device)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.filter_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned())).next();
        Self { child, said: said.expect("the helper says what became of it") }
    }

    /// Ends it as the kernel does: it cannot clean up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process runs; without a job there is nothing to do.
#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_process_holds_a_device() {
    let Ok(name) = std::env::var(JOB) else { return };
    match LinuxBackend::default().open(named(&name)) {
        Ok(_offload) => {
            println!("{SAYS}opened");
            // Until it is killed.
            let _ = std::io::stdin().read(&mut [0]);
        }
        Err(refused) => {
            let links = run("ip", &["-o", "link"]).replace('\n', "; ");
            println!("{SAYS}{refused:?}; {links}");
        }
    }
}
