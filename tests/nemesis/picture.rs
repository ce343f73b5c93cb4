//! The picture of a run: a strip for each minute, a lane for each instance and member; overlaps are red.

use std::time::Duration;

use super::{
    chronicle::{Chronicle, Event, Lane},
    fleet::name,
    judge::{Term, gaps, overlaps},
    marks::{self, Mark},
    plan::{INSTANCES, MEMBERS},
    svg::{Area, Svg},
};

/// The time of one strip, in nanoseconds.
const STRIP: u64 = 60_000_000_000;
const LEFT: f64 = 70.0;
const WIDTH: f64 = 1_440.0;
const HEAD: f64 = 165.0;
const RIBBON: f64 = 12.0;
const INSTANCE: f64 = 26.0;
const MEMBER: f64 = 10.0;
const KEYS: f64 = 18.0;
const AXIS: f64 = 40.0;

/// One color for each instance.
const COLORS: [&str; INSTANCES] = ["#2e7d32", "#00a5b5", "#a4b42b", "#795548", "#607d8b"];

/// Draws the whole run as SVG.
pub(crate) fn draw(chronicle: &Chronicle, terms: &[Term], seed: u64, wrong: &[String]) -> String {
    let mut svg = Svg::default();
    head(&mut svg, chronicle, terms, seed, wrong);
    let strips = (chronicle.ended - chronicle.begun).div_ceil(STRIP).max(1);
    for number in 0..strips {
        let from = chronicle.begun + number * STRIP;
        let top = HEAD + to_f64(number) * height();
        Strip { svg: &mut svg, zero: chronicle.begun, from, to: from + STRIP, top }.draw(chronicle, terms);
    }
    svg.finish(LEFT + WIDTH + 20.0, HEAD + to_f64(strips) * height())
}

/// One minute.
struct Strip<'a> {
    svg: &'a mut Svg,
    zero: u64,
    from: u64,
    to: u64,
    top: f64,
}

impl Strip<'_> {
    fn draw(&mut self, chronicle: &Chronicle, terms: &[Term]) {
        self.ground(chronicle);
        for presence in &chronicle.presences {
            let y = self.instance(presence.instance) + INSTANCE / 2.0 - 1.5;
            let to = presence.to.unwrap_or(chronicle.ended);
            self.bar(presence.from, to, y, 3.0, r##"fill="#bdbdbd""##, &presence.name);
        }
        for term in terms {
            self.term(term);
        }
        for event in &chronicle.events {
            self.event(event);
        }
        for (from, to) in overlaps(terms) {
            let (y, height) = (self.top, RIBBON + INSTANCE * to_f64(INSTANCES as u64));
            let title = format!("OVERLAP of {:?}", Duration::from_nanos(to - from));
            self.bar(
                from,
                to,
                y,
                height,
                r##"fill="#e53935" fill-opacity="0.55" stroke="#b71c1c" stroke-width="2""##,
                &title,
            );
            if let Some((x, _)) = self.clip(from, to) {
                self.svg.words(x, self.top - 3.0, r##"fill="#b71c1c" font-weight="bold""##, &title);
            }
        }
    }

    /// Lanes with their names, calms, seconds.
    fn ground(&mut self, chronicle: &Chronicle) {
        let bottom = self.keys() + KEYS;
        for calm in &chronicle.calms {
            self.bar(calm.from, calm.to, self.top, bottom - self.top, r##"fill="#e8f5e9""##, "all faults are healed");
        }
        let label = r##"text-anchor="end" fill="#424242""##;
        self.svg.words(
            LEFT - 8.0,
            self.top + 10.0,
            r##"text-anchor="end" fill="#424242" font-weight="bold""##,
            "leads",
        );
        for (index, color) in COLORS.iter().enumerate() {
            let y = self.instance(index);
            let style = format!(r##"text-anchor="end" font-weight="bold" fill="{color}""##);
            self.svg.words(LEFT - 8.0, y + INSTANCE / 2.0 + 4.0, &style, name(index));
            self.rule(y);
        }
        for index in 0..MEMBERS {
            let y = self.member(index);
            self.svg.words(
                LEFT - 8.0,
                y + MEMBER - 1.0,
                r##"text-anchor="end" fill="#424242" font-size="9""##,
                &format!("m{index}"),
            );
            self.rule(y);
        }
        self.rule(self.keys());
        self.svg.words(LEFT - 8.0, self.keys() + 13.0, label, "operator");
        self.rule(bottom);
        for second in (0..=60u32).step_by(5) {
            let x = LEFT + WIDTH * f64::from(second) / 60.0;
            self.svg.path(
                &format!("M{x} {}V{bottom}", self.top),
                r##"stroke="#9e9e9e" stroke-opacity="0.35" fill="none""##,
                "",
            );
            let at = (self.from - self.zero) / 1_000_000_000 + u64::from(second);
            let words = format!("{}:{:02}", at / 60, at % 60);
            self.svg.words(x, bottom + 12.0, r##"text-anchor="middle" fill="#757575" font-size="9""##, &words);
        }
    }

    fn rule(&mut self, y: f64) {
        self.svg.path(&format!("M{LEFT} {y}H{}", LEFT + WIDTH), r##"stroke="#e0e0e0" fill="none""##, "");
    }

    /// Dark while it runs, pale from when it was asked to stop.
    fn term(&mut self, term: &Term) {
        let color = COLORS[term.instance];
        let title = format!("{}, token {}", name(term.instance), term.token);
        let y = self.instance(term.instance) + 8.0;
        let asked = term.asked.unwrap_or(term.to).clamp(term.from, term.to);
        self.bar(term.from, term.to, self.top + 1.0, RIBBON - 2.0, &format!(r#"fill="{color}""#), &title);
        self.bar(term.from, asked, y, 10.0, &format!(r#"fill="{color}""#), &title);
        if asked < term.to {
            let style = format!(r#"fill="{color}" fill-opacity="0.35" stroke="{color}" stroke-width="0.7""#);
            self.bar(asked, term.to, y, 10.0, &style, &format!("{title}, asked to stop"));
        }
        if let Some((from, to)) = self.clip(term.from, asked)
            && to - from > 26.0
        {
            let style = r##"fill="#ffffff" font-size="8" font-weight="bold""##;
            self.svg.words(from + 3.0, y + 8.0, style, &term.token.to_string());
        }
    }

    fn event(&mut self, event: &Event) {
        let title = format!("{} {}", event.name, event.detail);
        let y = match event.lane {
            Lane::Instance(index) => self.instance(index),
            Lane::Member(index) => self.member(index),
            Lane::Keys => self.keys(),
        };
        match (marks::of(event.name), event.lane) {
            (Mark::Span { style, .. }, Lane::Member(_)) => {
                self.bar(event.from, event.to, y + 1.0, MEMBER - 2.0, style, &title)
            }
            (Mark::Span { style, at }, _) => self.bar(event.from, event.to, y + at, 4.5, style, &title),
            (Mark::Point { shape, style }, lane) => {
                let Some((x, _)) = self.clip(event.from, event.from) else { return };
                let middle = if lane == Lane::Keys { KEYS / 2.0 } else { INSTANCE / 2.0 };
                self.svg.path(&shape(x, y + middle), style, &title);
                if lane == Lane::Keys {
                    self.svg.words(x + 8.0, y + 12.0, r##"fill="#424242" font-size="8""##, &title);
                }
            }
        }
    }

    /// Draws the part of a time that falls into this strip, long enough to be visible.
    fn bar(&mut self, from: u64, to: u64, y: f64, height: f64, style: &str, title: &str) {
        if let Some((x, end)) = self.clip(from, to) {
            self.svg.area(Area { x, y, width: (end - x).max(1.2), height }, style, title);
        }
    }

    fn clip(&self, from: u64, to: u64) -> Option<(f64, f64)> {
        let x = |at: u64| LEFT + WIDTH * to_f64(at - self.from) / to_f64(STRIP);
        (from < self.to && to >= self.from).then(|| (x(from.max(self.from)), x(to.min(self.to))))
    }

    fn instance(&self, index: usize) -> f64 {
        self.top + RIBBON + INSTANCE * to_f64(index as u64)
    }

    fn member(&self, index: usize) -> f64 {
        self.instance(INSTANCES) + MEMBER * to_f64(index as u64)
    }

    fn keys(&self) -> f64 {
        self.member(MEMBERS)
    }
}

/// Draws the summary of the run and the legend.
fn head(svg: &mut Svg, chronicle: &Chronicle, terms: &[Term], seed: u64, wrong: &[String]) {
    let length = Duration::from_nanos(chronicle.ended - chronicle.begun).as_secs();
    svg.words(16.0, 26.0, r##"font-size="17" font-weight="bold" fill="#212121""##, &format!("Nemesis, seed {seed}"));
    let worst = gaps(terms).last().map_or(Duration::ZERO, |gap| gap.0);
    let median = gaps(terms).get(terms.len() / 2).map_or(Duration::ZERO, |gap| gap.0);
    let line = format!(
        "{length} s, {} faults, {} terms; between one term and the next: median {} ms, worst {} ms",
        chronicle.events.len(),
        terms.len(),
        median.as_millis(),
        worst.as_millis()
    );
    svg.words(16.0, 45.0, r##"fill="#424242""##, &line);
    match wrong {
        [] => svg.words(
            16.0,
            64.0,
            r##"fill="#2e7d32" font-weight="bold""##,
            "no overlap; an instance led in every calm; no keys, leases or processes remain",
        ),
        [first, ..] => {
            let more = format!("BROKEN ({}): {}", wrong.len(), first.lines().next().unwrap_or(""));
            svg.words(16.0, 64.0, r##"fill="#b71c1c" font-weight="bold""##, &more);
        }
    }
    marks::legend(svg, 16.0, 84.0);
}

/// The height of a strip with its axis.
fn height() -> f64 {
    RIBBON + INSTANCE * to_f64(INSTANCES as u64) + MEMBER * to_f64(MEMBERS as u64) + KEYS + AXIS
}

/// Converts a number, exactly enough for a picture.
#[allow(clippy::cast_precision_loss)]
fn to_f64(number: u64) -> f64 {
    number as f64
}
