//! Every row of the table is exercised: taken where it may stand, with an effect or a word about having none; refused
//! elsewhere, and with another number of arguments; harmless with any arguments.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod samples;

use std::collections::BTreeSet;

use culvert_config::{
    Checked, MemoryFiles, OptionRow, PushFilter, PushReason, Pushed, Status, find, parse, parse_ccd,
    render_all, table,
    table::{CCD, CONFIG, CONNECTION, FORGOTTEN, PUSH},
    verdict,
};
use samples::{Base, FILES, SAMPLES, Sample};

/// The files that samples name, under relative and absolute names, and a configuration.
fn files(text: &str) -> MemoryFiles {
    FILES
        .iter()
        .fold(MemoryFiles::default(), |files, (name, content)| {
            files.with(name, *content).with(&format!("/etc/openvpn/{name}"), *content)
        })
        .with("/dev/net/tun", "")
        .with("a.conf", text)
}

/// What a configuration comes to.
struct Outcome {
    /// Everything that counts, as text.
    print: String,
    errors: Vec<String>,
    notes: Vec<String>,
    checked: Checked,
}

fn read(text: &str) -> Outcome {
    let files = files(text);
    let parsed = parse(&["a.conf".to_owned()], &files);
    let lines = |found: &[culvert_config::Diagnostic]| -> Vec<String> {
        found.iter().map(|one| one.openvpn_line.clone()).collect()
    };
    let mut errors = lines(&parsed.errors);
    let asked = parsed.question.is_some();
    let acts = format!("{:?} {:?} {:?}", parsed.effects, parsed.question, parsed.secret_file());
    let mut checked = parsed.check(&files);
    if !asked {
        errors.extend(lines(&checked.errors));
    }
    let notes = lines(&checked.notes);
    let settings = std::mem::take(&mut checked.profile.settings);
    let print = format!("{acts} {errors:?} {:?}", checked.profile);
    checked.profile.settings = settings;
    Outcome { print, errors, notes, checked }
}

/// The profile of a sample without the option.
fn without(sample: &Sample) -> String {
    format!("{}{}\n{}\n", sample.base.text(), sample.with, sample.then)
}

fn row(sample: &Sample) -> &'static OptionRow {
    find(sample.name()).unwrap_or_else(|| panic!("no row {}", sample.name()))
}

/// Whether a file can have it.
fn in_files(sample: &Sample) -> bool {
    !matches!(sample.base, Base::OneClient | Base::Pushed)
}

/// Whether OpenVPN on this system takes it.
fn is_taken(row: &OptionRow) -> bool {
    !matches!(row.status, Status::Refused(..) | Status::Gone(_) | Status::WindowsOnly)
}

/// Whether only the check of the whole refuses it.
fn is_refused_later(row: &OptionRow) -> bool {
    matches!(row.status, Status::RefusedLater(_))
}

#[test]
fn every_row_has_a_sample() {
    let named: BTreeSet<_> = SAMPLES.iter().map(Sample::name).collect();
    let rows: BTreeSet<_> = table::table().map(|row| row.name).collect();
    assert_eq!(rows.difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a sample");
    assert_eq!(named.difference(&rows).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a row");
}

#[test]
fn every_sample_is_taken_where_it_fits() {
    let taken =
        |sample: &&Sample| in_files(sample) && is_taken(row(sample)) && !is_refused_later(row(sample));
    for sample in SAMPLES.iter().filter(taken) {
        let outcome = read(&sample.whole());
        assert!(outcome.errors.is_empty(), "{}: {:?}", sample.line, outcome.errors);
    }
}

/// "Nothing is silently ignored."
#[test]
fn every_sample_changes_something_or_is_said_to_have_no_effect() {
    let taken = |sample: &&Sample| in_files(sample) && is_taken(row(sample));
    for sample in SAMPLES.iter().filter(taken) {
        let name = sample.name();
        let (without, with) = (read(&without(sample)), read(&sample.whole()));
        match row(sample).status {
            Status::NoEffect(why) => {
                let said = with.notes.iter().filter(|line| line.contains(why)).count();
                assert_eq!(said, 1, "{name}: {:?}", with.notes);
            }
            _ => assert_ne!(without.print, with.print, "`{}` changes nothing", sample.line),
        }
    }
}

#[test]
fn what_is_gone_foreign_or_refused_is_refused_with_a_remedy() {
    for sample in SAMPLES.iter().filter(|sample| !is_taken(row(sample))) {
        let files = files(&sample.whole());
        let errors = parse(&["a.conf".to_owned()], &files).errors;
        let [error] = &errors[..] else { panic!("{}: {}", sample.line, render_all(&errors)) };
        let expected = match row(sample).status {
            Status::Refused(text, _) if text.starts_with("REMOVED OPTION") => text.to_owned(),
            Status::Refused(text, _) => format!("Options error: {text}"),
            _ => format!(": {} (2.7.8)", sample.name()),
        };
        assert!(error.openvpn_line.ends_with(&expected), "{}", error.openvpn_line);
        assert!(!error.remedy.is_empty(), "{}", sample.line);
    }
}

/// A line with the option that has the right number of arguments, blocks written as words.
fn line(sample: &Sample) -> String {
    match sample.line.starts_with('<') {
        true => format!("{} word", sample.name()),
        false => sample.line.to_owned(),
    }
}

#[test]
fn every_row_is_refused_in_a_connection_that_does_not_take_it() {
    for sample in SAMPLES {
        let (row, line) = (row(sample), line(sample));
        let block = format!("<connection>\nremote other.example\n{line}\n</connection>\n");
        let parsed = parse(&["a.conf".to_owned()], &files(&format!("{}{block}", Base::Client.text())));
        let (errors, warnings) = (parsed.errors, parsed.warnings);
        let context = format!("option '{}' cannot be used in this context ", row.name);
        match is_taken(row) {
            true if row.contexts.has(CONNECTION) => {
                assert!(errors.is_empty(), "{line}: {}", render_all(&errors));
            }
            true if row.contexts.has(FORGOTTEN) => {
                let note = format!("Note: option '{}' has no effect in a <connection> block", row.name);
                assert!(errors.is_empty(), "{line}: {}", render_all(&errors));
                assert!(warnings.iter().any(|warning| warning.openvpn_line == note), "{line}");
            }
            true => assert!(
                errors.iter().any(|error| error.openvpn_line.contains(&context)),
                "{line}: {}",
                render_all(&errors)
            ),
            false => assert!(!errors.is_empty(), "{line}"),
        }
    }
}

#[test]
fn every_row_is_refused_in_a_clients_file_that_does_not_take_it() {
    let nothing = format!("{:?}", parse_ccd("", "alice").0);
    for sample in SAMPLES {
        let (row, line) = (row(sample), line(sample));
        let (overrides, found) = parse_ccd(&line, "alice");
        let lines: Vec<_> = found.iter().map(|one| one.openvpn_line.as_str()).collect();
        let changes = format!("{overrides:?}") != nothing;
        if !is_taken(row) {
            assert!(!changes && lines.len() == 1, "{line}: {lines:?}");
        } else if row.contexts.has(CCD) {
            let note = format!("Note: option '{}' has no effect for one client", row.name);
            assert!(changes && lines.is_empty() || !changes && lines == [note.as_str()], "{line}: {lines:?}");
        } else {
            let error =
                format!("Options error: option '{}' cannot be used in this context (alice)", row.name);
            assert!(!changes && lines == [error.as_str()], "{line}: {lines:?}");
        }
    }
}

#[test]
fn every_row_is_refused_in_a_push_that_must_not_have_it() {
    let filter = PushFilter { filters: &[], route_nopull: false, allow_fqdn: false };
    let push = |line: &str| {
        let mut pushed = Pushed::default();
        filter.apply(line, &mut pushed).unwrap();
        let notes = std::mem::take(&mut pushed.notes);
        (notes, pushed)
    };
    for sample in SAMPLES {
        let (row, line) = (row(sample), line(sample));
        let (notes, pushed) = push(&line);
        let reasons: Vec<_> = notes.iter().map(|note| &note.reason).collect();
        let changes = values(&pushed) != values(&Pushed::default());
        match row.status {
            Status::Gone(_) | Status::WindowsOnly => assert_eq!(reasons, [&PushReason::Unknown], "{line}"),
            _ if !row.contexts.has(PUSH) => assert_eq!(reasons, [&PushReason::NotPushable], "{line}"),
            _ => assert!(
                changes && reasons.is_empty() || !changes && matches!(reasons[..], [PushReason::NoEffect(_)]),
                "{line}: {reasons:?}"
            ),
        }
    }
}

/// The values of what was pushed, as text; without the list of names at its end.
fn values(pushed: &Pushed) -> String {
    let print = format!("{pushed:?}");
    print.rsplit_once(", taken: ").map(|(values, _)| values.to_owned()).unwrap()
}

#[test]
fn every_row_is_refused_with_another_number_of_arguments() {
    for sample in SAMPLES {
        let row = row(sample);
        let (min, max) = row.arity_range();
        let counts = [min.checked_sub(1), Some(max + 1).filter(|count| *count < 15)];
        for count in counts.into_iter().flatten() {
            let line = format!("{}{}", row.name, " 1".repeat(count));
            let text = format!(" {} (2.7.8)", row.name);
            let found = match sample.base {
                Base::OneClient => parse_ccd(&line, "alice").1,
                Base::Pushed => continue,
                _ => parse(&["a.conf".to_owned()], &files(&format!("{}{line}\n", sample.base.text()))).errors,
            };
            let [error] = &found[..] else { panic!("{line}: {}", render_all(&found)) };
            assert!(
                error
                    .openvpn_line
                    .starts_with("Options error: Unrecognized option or missing or extra parameter(s)")
                    && error.openvpn_line.ends_with(&text),
                "{line}: {}",
                error.openvpn_line
            );
        }
    }
}

/// Words that no option expects.
const GARBAGE: &[&str] = &[
    "",
    "-1",
    "99999999999999999999999",
    "%s%n",
    "ü\u{FEFF}\u{0}\r\n\t",
    "::::/129/",
    "1.2.3.4:99999999",
    "\u{10FFFF}=,;'\"\\",
];

/// SEC-CORE-1.
#[test]
fn no_row_panics_whatever_its_arguments() {
    let long = "x".repeat(5000);
    let garbage: Vec<&str> = GARBAGE.iter().copied().chain([long.as_str()]).collect();
    for sample in SAMPLES {
        let words: Vec<&str> = sample.line.split([' ', '\n']).skip(1).collect();
        for word in &garbage {
            let all = (0..4).map(|count| vec![*word; count]);
            let one = (0..words.len()).map(|index| {
                let mut words = words.clone();
                words[index] = word;
                words
            });
            for arguments in all.chain(one) {
                try_everywhere(sample, &arguments);
            }
        }
    }
}

fn try_everywhere(sample: &Sample, arguments: &[&str]) {
    let name = sample.name();
    let line = format!("{name} {}", arguments.join(" "));
    let mut argv = vec!["--config".to_owned(), "a.conf".to_owned(), format!("--{name}")];
    argv.extend(arguments.iter().map(|word| (*word).to_owned()));
    let files = files(&format!("{}{}\n", sample.base.text(), sample.with));
    let parsed = parse(&argv, &files);
    let _ = render_all(&parsed.errors) + &render_all(&parsed.warnings);
    let checked = parsed.check(&files);
    let _ = render_all(&checked.errors) + &render_all(&checked.notes);
    let _ = verdict(&checked.profile);
    let _ = render_all(&parse_ccd(&line, "alice").1);
    let mut pushed = Pushed::default();
    let filter = PushFilter { filters: &[], route_nopull: false, allow_fqdn: true };
    let _ = filter.apply(&line, &mut pushed);
    let _: Vec<_> = pushed.notes.iter().map(ToString::to_string).collect();
}

/// An effect that no sample reaches is one that nobody has seen.
#[test]
fn every_effect_on_a_data_plane_is_reached_by_a_sample() {
    let mut seen = BTreeSet::new();
    for sample in SAMPLES.iter().filter(|sample| in_files(sample)) {
        for text in [without(sample), sample.whole()] {
            for verdict in verdict(&read(&text).checked.profile) {
                let lists = [verdict.refusals, verdict.per_peer, verdict.without, verdict.kept];
                seen.extend(lists.into_iter().flatten().map(|remark| (remark.option, remark.because)));
            }
        }
    }
    // Files of clients are read when the data plane is long chosen.
    let rows = table::table().filter(|row| row.contexts.has(CONFIG));
    let effects = rows.flat_map(|row| row.offload.iter().map(|effect| (row.name, effect.because)));
    let unseen: Vec<_> = effects.filter(|effect| !seen.contains(effect)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}
