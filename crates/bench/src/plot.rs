//! Results as a picture: bars by contender, as SVG.
//!
//! The picture is a function of the results alone, with no fonts or scripts from elsewhere. Colours follow the reader's
//! light or dark mode; the paper is drawn, too, so that it fits whatever page it is shown on.

use std::fmt::Write as _;

use crate::{
    metric::{Metric, TCP1_CPU, TCP1_DOWN, TCP1_UP, TCP4_UP, UDP1300},
    results::{Outcome, Results},
    table::{conditions, digits},
};

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 24.0;
/// Where bars begin: left of it stand the names.
const BARS: f64 = 150.0;
/// Room for a number behind the longest bar.
const NUMBER: f64 = 70.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 34.0;
const FOOT_LINE: f64 = 15.0;
/// Characters of a line of the foot.
const FOOT_WIDTH: usize = 120;

const STYLE: &str = "\
svg{font-family:system-ui,sans-serif;font-size:13px}\
.paper{fill:#fff;stroke:#d0d7de}\
text{fill:#1f2328}\
.title{font-weight:600}\
.foot{fill:#59636e;font-size:11px}\
.bar{fill:#8c959f}\
.own{fill:#0969da}\
@media(prefers-color-scheme:dark){\
.paper{fill:#0d1117;stroke:#3d444d}\
text{fill:#f0f6fc}\
.foot{fill:#9198a1}\
.bar{fill:#656c76}\
.own{fill:#4493f8}}";

/// A metric of the picture, and which end of its scale is the good one.
const PANELS: [(&Metric, &str); 5] = [
    (&TCP1_UP, "more is better"),
    (&TCP1_DOWN, "more is better"),
    (&TCP4_UP, "more is better"),
    (&UDP1300, "more is better"),
    (&TCP1_CPU, "less is better"),
];

/// Draws the picture: a panel for each metric that was measured.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for (metric, sense) in PANELS {
        let bars: Vec<(&Outcome, f64)> = results
            .measured()
            // No VPN has no VPN's costs: a bar of nothing says nothing.
            .filter_map(|contender| Some((contender, contender.median(metric).filter(|value| *value > 0.0)?)))
            .collect();
        if !bars.is_empty() {
            y = panel(&mut body, y, metric, sense, &bars);
        }
    }
    y += 6.0;
    for line in wrapped(&conditions(results)) {
        let _ = writeln!(body, "<text class=\"foot\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", escaped(&line));
        y += FOOT_LINE;
    }
    let height = y + MARGIN - FOOT_LINE / 2.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"VPN data paths compared\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n{body}</svg>\n",
        WIDTH - 1.0,
        height - 1.0,
    )
}

/// Draws a panel from `top` downwards; returns where the next one begins.
fn panel(body: &mut String, top: f64, metric: &Metric, sense: &str, bars: &[(&Outcome, f64)]) -> f64 {
    let title = format!("{}, {} ({sense})", metric.title, metric.unit);
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
        top + HEAD / 2.0 - 4.0,
        escaped(&title)
    );
    let longest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let room = WIDTH - BARS - NUMBER - MARGIN;
    let mut y = top + HEAD - 10.0;
    for (contender, value) in bars {
        let length = (room * value / longest).max(1.0);
        let class = if contender.name.starts_with("culvert") { "bar own" } else { "bar" };
        let baseline = y + BAR - 3.0;
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{BARS}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{baseline}\">{}</text>",
            BARS - 8.0,
            escaped(&label(&contender.name)),
            BARS + length + 6.0,
            digits(*value),
        );
        y += ROW;
    }
    y + 14.0
}

fn label(name: &str) -> String {
    if name == "none" { "no VPN".to_owned() } else { name.to_owned() }
}

/// Breaks text at blanks.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + word.chars().count() >= FOOT_WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    fn widths(svg: &str) -> Vec<&str> {
        let bars = svg.split("<rect class=\"bar").skip(1);
        bars.filter_map(|bar| bar.split("width=\"").nth(1)?.split('"').next()).collect()
    }

    #[test]
    fn bars_are_as_long_as_the_medians_and_nothing_is_drawn_of_what_was_not_measured() {
        let svg = svg(&sample());
        // Up: 10, 0.5 and 5 of a room of 516. CPU: 26 and 2.6; none has none.
        assert_eq!(widths(&svg), ["516.0", "25.8", "258.0", "516.0", "51.6"]);
        assert_eq!(svg.matches("class=\"title\"").count(), 2);
        assert!(!svg.contains("wireguard"));
        assert!(svg.contains(">no VPN<") && svg.contains("bar own"));
    }

    #[test]
    fn the_picture_is_well_formed_and_the_same_each_time() {
        let results = sample();
        let picture = svg(&results);
        assert_eq!(picture, svg(&results));
        assert!(picture.contains("Z80 &lt;2 &amp; more&gt;"));
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        assert!(picture.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn long_lines_break_at_blanks() {
        let lines = wrapped(&"word ".repeat(60));
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() < FOOT_WIDTH && !line.ends_with(' ')));
    }
}
