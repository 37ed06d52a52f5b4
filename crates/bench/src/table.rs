//! Results as a table in Markdown, and that table's place in a document.

use std::fmt::Write as _;

use crate::{
    metric::{METRICS, Metric},
    results::{Outcome, Results},
};

/// What stands around the table in a document.
const BEGIN: &str = "<!-- table of culvert bench: begin -->\n";
const END: &str = "<!-- table of culvert bench: end -->\n";

/// Draws the table: a row for each metric, a column for each contender, medians with their ratios to OpenVPN and their share
/// of no VPN; below it, what the figures depend on.
pub(crate) fn markdown(results: &Results) -> String {
    let columns: Vec<&Outcome> = results.measured().collect();
    let references = [("×", results.reference("openvpn")), ("÷", results.reference("none"))];
    let mut text = String::from("| |");
    for column in &columns {
        let _ = write!(text, " {} |", column.name);
    }
    text += "\n|---|";
    text += &"---:|".repeat(columns.len());
    text.push('\n');
    for metric in METRICS {
        if columns.iter().all(|column| column.median(metric).is_none()) {
            continue;
        }
        let _ = write!(text, "| {}, {} |", metric.title, metric.unit);
        for column in &columns {
            let _ = write!(text, " {} |", cell(column, metric, &references));
        }
        text.push('\n');
    }
    text.push('\n');
    let marks: Vec<String> = references
        .iter()
        .filter_map(|(mark, reference)| Some(format!("{mark} is the ratio to {}", reference.as_ref()?.name)))
        .collect();
    let _ = writeln!(
        text,
        "Medians{}{}. {}",
        if marks.is_empty() { "" } else { "; " },
        marks.join(", "),
        conditions(results)
    );
    for contender in &results.contenders {
        if let Some(why) = &contender.absent {
            let _ = writeln!(text, "{} was not measured: {why}.", contender.name);
        }
    }
    for error in &results.errors {
        let first = error.lines().next().unwrap_or_default();
        let _ = writeln!(text, "Failed: {first}");
    }
    text
}

fn cell(column: &Outcome, metric: &Metric, references: &[(&str, Option<&Outcome>)]) -> String {
    let Some(value) = column.median(metric) else { return "–".to_owned() };
    let ratios = references.iter().filter_map(|(mark, reference)| {
        let reference =
            reference.filter(|reference| reference.name != column.name && column.name != "none")?;
        let base = reference.median(metric).filter(|base| *base > 0.0)?;
        Some(format!("{mark} {}", digits(value / base)))
    });
    let ratios: Vec<String> = ratios.collect();
    if ratios.is_empty() { digits(value) } else { format!("{} ({})", digits(value), ratios.join(", ")) }
}

/// The sentence that tells under which conditions a figure is valid.
pub(crate) fn conditions(results: &Results) -> String {
    let fact = |key: &str| results.machine.get(key).map_or("?", String::as_str);
    let setting = |key: &str| results.settings.get(key).map_or("?", String::as_str);
    let versions: Vec<&str> =
        results.measured().map(|contender| contender.version.as_str()).filter(|v| !v.is_empty()).collect();
    format!(
        "Rounds: {}; underlay: {}; {} over {}; {}, {} cores, of which others kept {} busy; Linux {}; {}; {}.",
        setting("rounds"),
        setting("underlay"),
        setting("cipher"),
        setting("proto"),
        fact("cpu"),
        fact("cores"),
        fact("background"),
        fact("kernel"),
        fact("date"),
        versions.join(", "),
    )
}

/// Three significant digits.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Puts a table between the markers of a document; `None` when it has none.
pub(crate) fn insert(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn a_table_has_medians_ratios_and_what_is_missing() {
        let table = markdown(&sample());
        let mut lines = table.lines();
        assert_eq!(lines.next(), Some("| | none | openvpn-2.6 | culvert |"));
        assert_eq!(lines.next(), Some("|---|---:|---:|---:|"));
        assert_eq!(
            lines.next(),
            Some("| 1 TCP stream, up, Gb/s | 10.0 | 0.500 (÷ 0.050) | 5.00 (× 10.0, ÷ 0.500) |")
        );
        // Nothing is divided by zero.
        assert_eq!(lines.next(), Some("| VPN CPU, 1 stream up, s/GiB | 0.00 | 26.0 | 2.60 (× 0.100) |"));
        assert!(table.contains("wireguard-go was not measured: no program wireguard-go.\n"));
        assert!(table.contains("Failed: openvpn-2.6 ping: no reply\n"));
        assert!(table.contains("Rounds: 2; underlay: mtu; AES-256-GCM over udp; Z80"));
    }

    #[test]
    fn a_table_replaces_the_one_between_the_markers() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let once = insert(&document, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert_eq!(insert(&once, "new\n").unwrap(), once);
        assert_eq!(insert("no markers", "new"), None);
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        let shown = [0.0, 0.0504, 0.99949, 0.99951, 9.994, 9.996, 99.94, 99.96, 1234.5].map(digits);
        assert_eq!(shown, ["0.00", "0.050", "0.999", "1.00", "9.99", "10.0", "99.9", "100", "1234"]);
    }
}
