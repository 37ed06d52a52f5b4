use std::os::unix::fs::PermissionsExt as _;

use super::*;

type Lines = Arc<Mutex<Vec<String>>>;

fn logger(config: LogConfig) -> (Logger, Lines, impl tracing::Subscriber + Send + Sync) {
    let lines = Lines::default();
    let (logger, subscriber) = Logger::build(config, Sink::Memory(Arc::clone(&lines)), TimeZone::UTC);
    (logger, lines, subscriber)
}

fn bare(verb: u8) -> LogConfig {
    LogConfig { verb, suppress_timestamps: true, ..LogConfig::default() }
}

fn taken(lines: &Lines) -> Vec<String> {
    std::mem::take(&mut lines.lock().expect("not poisoned"))
}

#[test]
fn a_line_appears_from_its_verb_on() {
    let (logger, lines, subscriber) = logger(bare(2));
    tracing::subscriber::with_default(subscriber, || {
        let speak = || {
            crate::ovlog!(1, "one");
            crate::ovlog!(2, "two");
            crate::ovlog!(3, "three");
        };
        speak();
        assert_eq!(taken(&lines), ["one", "two"]);
        logger.set_verb(3);
        speak();
        assert_eq!(taken(&lines), ["one", "two", "three"]);
        logger.set_verb(0);
        speak();
        assert_eq!(taken(&lines), Vec::<String>::new());
    });
}

#[test]
fn levels_of_libraries_map_to_verbs() {
    let (logger, lines, subscriber) = logger(bare(1));
    tracing::subscriber::with_default(subscriber, || {
        let speak = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        };
        let mut seen = Vec::new();
        for verb in [0, 1, 3, 4, 7] {
            logger.set_verb(verb);
            speak();
            seen.push(taken(&lines).concat());
        }
        assert_eq!(seen, ["", "ew", "ewi", "ewid", "ewidt"]);
    });
}

#[test]
fn lines_within_a_peers_span_begin_with_its_name() {
    let (_logger, lines, subscriber) = logger(bare(3));
    tracing::subscriber::with_default(subscriber, || {
        let peer = PeerSpan::new("udp4:192.0.2.1:1194");
        {
            let _in = peer.enter();
            tracing::info!("before");
        }
        peer.rename("alice/udp4:192.0.2.1:1194");
        let _in = peer.enter();
        crate::ovlog!(warn 1, "after {}", 1);
    });
    assert_eq!(taken(&lines), ["udp4:192.0.2.1:1194 before", "alice/udp4:192.0.2.1:1194 after 1"]);
}

#[test]
fn mute_leaves_out_what_repeats_and_says_how_much() {
    let (_logger, lines, subscriber) = logger(LogConfig { mute: Some(2), ..bare(1) });
    tracing::subscriber::with_default(subscriber, || {
        for index in 0..5 {
            crate::ovlog!(1, "same {index}");
        }
        crate::ovlog!(1, "other");
    });
    assert_eq!(
        taken(&lines),
        [
            "same 0",
            "same 1",
            "NOTE: --mute triggered...",
            "3 variation(s) on previous 2 message(s) suppressed by --mute",
            "other"
        ]
    );
}

#[test]
fn a_peer_that_causes_many_lines_is_cut_short() {
    let (_logger, lines, subscriber) = logger(bare(3));
    tracing::subscriber::with_default(subscriber, || {
        let _in = PeerSpan::new("udp4:192.0.2.1:1194").enter();
        for _ in 0..1000 {
            tracing::info!("noise");
        }
    });
    assert!((100..200).contains(&taken(&lines).len()));
}

#[test]
fn log_truncates_and_log_append_does_not() {
    let directory = std::env::temp_dir().join(format!("culvert-log-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    let path = directory.join("log");
    std::fs::write(&path, "old\n").expect("a file for the test");
    let to =
        |append| LogConfig { destination: LogDestination::File { path: path.clone(), append }, ..bare(1) };

    let (logger, _, subscriber) = logger(bare(1));
    logger.reconfigure(to(true)).expect("the file opens");
    tracing::subscriber::with_default(subscriber, || crate::ovlog!(1, "new"));
    assert_eq!(std::fs::read_to_string(&path).expect("the log"), "old\nnew\n");

    logger.reconfigure(to(false)).expect("the file opens");
    logger.start_writer().expect("a thread");
    logger.plain("Options error: x");
    logger.flush();
    assert_eq!(std::fs::read_to_string(&path).expect("the log"), "Options error: x\n");

    let path = directory.join("new");
    let destination = LogDestination::File { path: path.clone(), append: true };
    logger.reconfigure(LogConfig { destination, ..bare(1) }).expect("the file opens");
    let mode = std::fs::metadata(&path).expect("the log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "what a log tells of clients is not for everybody");
    std::fs::remove_dir_all(&directory).expect("the directory goes");
}

#[test]
fn another_log_that_is_prepared_changes_nothing_before_it_is_applied() {
    let folder = culvert_testkit::TempDir::new().expect("a directory");
    let to = |name: &str| {
        let path = folder.path().join(name);
        LogConfig { destination: LogDestination::File { path, append: true }, ..bare(1) }
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("the log");
    let (logger, _, subscriber) = logger(bare(1));
    logger.reconfigure(to("old")).expect("the file opens");
    let change = logger.prepare(to("new")).expect("the file opens");
    tracing::subscriber::with_default(subscriber, || {
        crate::ovlog!(1, "before");
        logger.apply(change);
        crate::ovlog!(1, "after");
    });
    assert_eq!((read("old").as_str(), read("new").as_str()), ("before\n", "after\n"));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error_with_its_name() {
    let (logger, _, _subscriber) = logger(bare(1));
    let destination = LogDestination::File { path: "/nonexistent/log".into(), append: false };
    let error = logger.reconfigure(LogConfig { destination, ..bare(1) }).expect_err("no such directory");
    assert!(error.to_string().contains("/nonexistent/log"));
}

/// Remembers what it is shown.
#[derive(Default)]
struct Remembered(Mutex<Vec<String>>);

impl LogTap for Remembered {
    fn line(&self, _verb: u8, _gravity: Gravity, _peer: Option<&str>, text: &str) {
        self.0.lock().expect("not poisoned").push(text.to_owned());
    }
}

#[test]
fn a_tap_is_shown_the_first_lines_too() {
    let (logger, _lines, subscriber) = logger(bare(1));
    let tap = Arc::new(Remembered::default());
    tracing::subscriber::with_default(subscriber, || {
        crate::ovlog!(1, "before");
        logger.set_tap(Some(Arc::<Remembered>::clone(&tap)));
        crate::ovlog!(1, "after");
    });
    assert_eq!(*tap.0.lock().expect("not poisoned"), ["before", "after"]);
}
