//! The plot: a dot for every run and a line for every median, on one logarithmic axis.

use std::fmt::Write as _;

use crate::{
    contestant::Contestant,
    report::Report,
    results::{Case, Fleet},
    stages::{STAGES, Stages},
    statistics::Summary,
};

const WIDTH: f64 = 900.0;
/// Where the axis begins and ends.
const AXIS: (f64, f64) = (250.0, 800.0);
/// From one contestant's row to the next.
const ROW: f64 = 21.0;
/// Between two cases.
const GAP: f64 = 14.0;
const TOP: f64 = 86.0;
/// The height of what the fleets cost.
const BARS: f64 = 98.0;

/// The height of the stages of a handover.
const STAGES_HEIGHT: f64 = 118.0;

/// The whole picture.
pub(crate) fn draw(report: &Report) -> String {
    let rows: usize = report.cases.iter().map(|case| case.series.len()).sum();
    let fleets = largest_of_both(report);
    let medians = report.stages.as_ref().and_then(Stages::medians);
    let stages_height = if medians.is_some() { STAGES_HEIGHT } else { 0.0 };
    let below = 52.0 + stages_height + if fleets.is_empty() { 0.0 } else { BARS };
    let bottom = TOP + number(rows) * ROW + number(report.cases.len()) * GAP + 2.0;
    let height = bottom + below + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, 'DejaVu Sans', \
         sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n<rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 24.0, 34.0, "start", "font-size=\"17\" font-weight=\"600\"", "How long it takes, in milliseconds");
    legend(&mut svg);
    axis(&mut svg, bottom);
    let mut y = TOP;
    for case in &report.cases {
        draw_case(&mut svg, case, y);
        y += number(case.series.len()) * ROW + GAP;
    }
    if let Some(medians) = medians {
        stacked(&mut svg, &medians, bottom + 52.0);
    }
    if let [ours, other] = fleets.as_slice() {
        bars(&mut svg, ours, other, bottom + 52.0 + stages_height);
    }
    footer(&mut svg, report, height);
    svg + "</svg>\n"
}

const fn color(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::Program => "#0969da",
        Contestant::Etcdctl => "#bc4c00",
        Contestant::Bare => "#6e7781",
    }
}

fn legend(svg: &mut String) {
    let mut x = 24.0;
    for (contestant, name, width) in [
        (Contestant::Program, "etcd-await-election", 160.0),
        (Contestant::Etcdctl, "etcdctl lock", 110.0),
        (Contestant::Bare, "bare: the same requests to etcd, or the bare exec", 0.0),
    ] {
        let _ = writeln!(svg, "<circle cx=\"{}\" cy=\"55\" r=\"5\" fill=\"{}\"/>", x + 5.0, color(contestant));
        text(svg, x + 16.0, 59.5, "start", "", name);
        x += width;
    }
}

/// From half a millisecond to twenty seconds.
fn x(milliseconds: f64) -> f64 {
    let (from, to) = (0.5f64.ln(), 20_000.0f64.ln());
    AXIS.0 + (milliseconds.max(0.5).ln() - from) / (to - from) * (AXIS.1 - AXIS.0)
}

fn axis(svg: &mut String, bottom: f64) {
    let labels = [(1.0, "1"), (10.0, "10"), (100.0, "100"), (1e3, "1 s"), (1e4, "10 s")];
    for (value, label) in labels {
        let x = x(value);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"#d0d7de\"/>", TOP - 8.0);
        text(svg, x, bottom + 17.0, "middle", "fill=\"#57606a\" font-size=\"12\"", label);
    }
}

fn draw_case(svg: &mut String, case: &Case, top: f64) {
    text(svg, 24.0, top + 13.0, "start", "font-weight=\"600\"", case.title);
    if case.series.len() > 1 {
        wrapped(svg, case.what, top + 29.0);
    }
    for (row, series) in case.series.iter().enumerate() {
        let y = top + number(row) * ROW + 9.0;
        let color = color(series.contestant);
        for (run, &value) in series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            // Beside each other where they would hide each other.
            let beside = number(run % 5) * 2.0 - 4.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"{color}\" fill-opacity=\"0.32\"/>",
                x(value),
                y + beside
            );
        }
        if let Some(Summary { median, .. }) = Summary::of(&series.values) {
            let at = x(median);
            let _ = writeln!(svg, "<path d=\"M{at:.1} {:.1}v16\" stroke=\"{color}\" stroke-width=\"3\"/>", y - 8.0);
            let style = format!("fill=\"{color}\" font-weight=\"600\"");
            text(svg, AXIS.1 + 76.0, y + 4.5, "end", &style, &duration(median));
        }
    }
}

/// In one or two lines under the title.
fn wrapped(svg: &mut String, what: &str, y: f64) {
    const LINE: usize = 38;
    let style = "fill=\"#57606a\" font-size=\"11\"";
    let mut lines = vec![String::new()];
    for word in what.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + word.chars().count() > LINE {
            lines.push(word.to_owned());
        } else {
            let space = if lines[last].is_empty() { "" } else { " " };
            lines[last] += &format!("{space}{word}");
        }
    }
    for (number_of_line, line) in lines.iter().take(2).enumerate() {
        text(svg, 24.0, y + number(number_of_line) * 13.0, "start", style, line);
    }
}

/// One bar, whose parts are the stages of a handover.
fn stacked(svg: &mut String, medians: &[f64; STAGES.len()], top: f64) {
    const LEFT: f64 = 24.0;
    const LENGTH: f64 = 852.0;
    const COLUMN: f64 = 170.0;
    // Blue is this program, orange is etcd, gray the kernel.
    const COLORS: [&str; STAGES.len()] =
        ["#8c959f", "#0a3069", "#0969da", "#bc4c00", "#e16f24", "#218bff", "#54aeff", "#afb8c1", "#6e7781"];
    let total: f64 = medians.iter().sum();
    let title = format!("Where the time of a handover after exit goes: {total:.1} ms with each event logged");
    text(svg, LEFT, top, "start", "font-size=\"17\" font-weight=\"600\"", &title);
    let mut x = LEFT;
    for (stage, (&median, color)) in medians.iter().zip(COLORS).enumerate() {
        let width = median / total.max(f64::MIN_POSITIVE) * LENGTH;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\" fill=\"{color}\"/>",
            top + 14.0
        );
        x += width;
        let (column, row) = (number(stage % 5), number(stage / 5));
        let (x, y) = (LEFT + column * COLUMN, top + 50.0 + row * 18.0);
        let _ = writeln!(svg, "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{color}\"/>", y - 9.0);
        let label = format!("{} {median:.2}", STAGES[stage].0);
        text(svg, x + 15.0, y, "start", "font-size=\"12\"", &label);
    }
}

/// The fleets of the largest size that both were measured with, ours first.
fn largest_of_both(report: &Report) -> Vec<&Fleet> {
    let of = |contestant: Contestant| report.fleets.iter().filter(move |fleet| fleet.contestant == contestant);
    let pairs = of(Contestant::Program).flat_map(|ours| {
        of(Contestant::Etcdctl).filter(|other| other.waiting == ours.waiting).map(move |other| vec![ours, other])
    });
    pairs.max_by_key(|pair| pair[0].waiting).unwrap_or_default()
}

/// What a bar is as long as.
type Figure = fn(&Fleet) -> f64;

/// Three small pictures beside each other, each with a scale of its own: less is better in all.
fn bars(svg: &mut String, ours: &Fleet, other: &Fleet, top: f64) {
    const LEFT: f64 = 24.0;
    const COLUMN: f64 = 290.0;
    const LONGEST: f64 = 190.0;
    let title = format!("What {} that wait cost", ours.waiting);
    text(svg, LEFT, top, "start", "font-size=\"17\" font-weight=\"600\"", &title);
    let columns: [(&str, &str, Figure); 3] = [
        ("Memory of each", "MB", |fleet| fleet.pss_mb),
        ("CPU time of each, per second", "ms", |fleet| fleet.cpu_ms),
        ("Requests to etcd by all, per second", "", |fleet| fleet.requests),
    ];
    for (column, (what, unit, figure)) in columns.into_iter().enumerate() {
        let x = LEFT + number(column) * COLUMN;
        text(svg, x, top + 25.0, "start", "font-weight=\"600\" font-size=\"12\"", what);
        let longest = figure(ours).max(figure(other)).max(f64::MIN_POSITIVE);
        for (row, fleet) in [ours, other].into_iter().enumerate() {
            let y = top + 34.0 + number(row) * 18.0;
            let (value, color) = (figure(fleet), color(fleet.contestant));
            let width = (value / longest * LONGEST).max(1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"13\" rx=\"2\" fill=\"{color}\"/>"
            );
            let label = format!("{value:.1} {unit}");
            let style = format!("fill=\"{color}\" font-weight=\"600\" font-size=\"12\"");
            text(svg, x + width + 6.0, y + 11.0, "start", &style, label.trim_end());
        }
    }
}

fn footer(svg: &mut String, report: &Report, height: f64) {
    let style = "fill=\"#57606a\" font-size=\"11\"";
    let mut notes = "Each dot is a run, the line and the figure are the median.".to_owned();
    if report.cases.iter().any(|case| matches!(case.key, "killed" | "cut-off")) {
        notes += " Killed or cut off, what etcdctl lock ran goes on beside its successor.";
    }
    text(svg, 24.0, height - 32.0, "start", style, &notes);
    text(svg, 24.0, height - 16.0, "start", style, &report.machine);
}

fn duration(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 10.0 => format!("{short:.1} ms"),
        middle if middle < 1000.0 => format!("{middle:.0} ms"),
        long => format!("{:.1} s", long / 1e3),
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{words}</text>");
}

#[expect(clippy::cast_precision_loss, reason = "a few rows")]
const fn number(count: usize) -> f64 {
    count as f64
}
