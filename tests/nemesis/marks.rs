//! The marks of each kind of fault in the picture, and the legend.

use super::svg::{Area, Svg};

/// How a fault is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// A bar, this far below the top of its lane: networks above, processes below the command.
    Span { at: f64, style: &'static str },
    /// A sign at an instant.
    Point { shape: fn(f64, f64) -> String, style: &'static str },
}

const ABOVE: f64 = 2.0;
const BELOW: f64 = 19.5;

/// All kinds, in the order of the legend.
const MARKS: [(&str, Mark); 29] = [
    ("gatekeeper killed", Mark::Point { shape: cross, style: r##"stroke="#000000" stroke-width="2.4" fill="none""## }),
    ("guard killed", Mark::Point { shape: cross, style: r##"stroke="#6a1b9a" stroke-width="2.4" fill="none""## }),
    ("command killed", Mark::Point { shape: cross, style: r##"stroke="#bf360c" stroke-width="2.4" fill="none""## }),
    ("instance restarted", Mark::Point { shape: down, style: r##"fill="#212121""## }),
    ("restarted with force", Mark::Point { shape: up, style: r##"fill="#d81b60""## }),
    ("gatekeeper frozen", Mark::Span { at: BELOW, style: r##"fill="#1e88e5""## }),
    ("guard frozen", Mark::Span { at: BELOW, style: r##"fill="#5e35b1""## }),
    ("command frozen", Mark::Span { at: BELOW, style: r##"fill="#81d4fa""## }),
    ("network cut", Mark::Span { at: ABOVE, style: r##"fill="#d84315""## }),
    ("network black hole", Mark::Span { at: ABOVE, style: r##"fill="#212121""## }),
    ("network one-way, requests lost", Mark::Span { at: ABOVE, style: r##"fill="#8d6e63""## }),
    ("network one-way, responses lost", Mark::Span { at: ABOVE, style: r##"fill="#a1887f""## }),
    ("network slow", Mark::Span { at: ABOVE, style: r##"fill="#ffb300""## }),
    ("connections reset", Mark::Point { shape: tick, style: r##"stroke="#d84315" stroke-width="3" fill="none""## }),
    ("member killed", Mark::Span { at: 0.0, style: r##"fill="#212121""## }),
    ("member stopped", Mark::Span { at: 0.0, style: r##"fill="#757575""## }),
    ("member frozen", Mark::Span { at: 0.0, style: r##"fill="#1e88e5""## }),
    ("one of two members down: no quorum", Mark::Span { at: 0.0, style: r##"fill="#c62828""## }),
    ("raft leader down", Mark::Span { at: 0.0, style: r##"fill="#00695c""## }),
    ("a stray cluster at m0's address", Mark::Span { at: 0.0, style: r##"fill="#d81b60""## }),
    ("responses take seconds", Mark::Span { at: 0.0, style: r##"fill="#ffb300""## }),
    ("DNS fails", Mark::Span { at: ABOVE, style: r##"fill="#6d4c41""## }),
    ("logs hang", Mark::Span { at: 11.0, style: r##"fill="#00897b""## }),
    ("holder key deleted", Mark::Point { shape: diamond, style: r##"fill="#d81b60""## }),
    ("entry deleted", Mark::Point { shape: diamond, style: r##"fill="#fb8c00""## }),
    ("lease revoked (beyond)", Mark::Point { shape: diamond, style: r##"fill="#b71c1c""## }),
    ("gatekeeper and guard frozen (beyond)", Mark::Span { at: BELOW, style: r##"fill="#b71c1c""## }),
    ("machine frozen (beyond)", Mark::Span { at: BELOW, style: r##"fill="#e65100""## }),
    ("two at once", Mark::Span { at: ABOVE, style: r##"fill="#e53935" fill-opacity="0.55" stroke="#b71c1c""## }),
];

/// Returns the mark of a kind.
pub(crate) fn of(name: &str) -> Mark {
    MARKS.iter().find(|mark| mark.0 == name).map_or(MARKS[0].1, |mark| mark.1)
}

/// Draws all kinds with their names.
pub(crate) fn legend(svg: &mut Svg, left: f64, top: f64) {
    for (number, (name, mark)) in (0u32..).zip(MARKS) {
        let (x, y) = (left + 250.0 * f64::from(number / 5), top + 15.0 * f64::from(number % 5));
        match mark {
            Mark::Span { style, .. } => {
                svg.area(Area { x, y: y - 3.0, width: 16.0, height: 6.0 }, style, "");
            }
            Mark::Point { shape, style } => svg.path(&shape(x + 8.0, y), style, ""),
        }
        svg.words(x + 22.0, y + 4.0, r##"fill="#424242" font-size="10""##, name);
    }
}

fn cross(x: f64, y: f64) -> String {
    format!("M{:.2} {:.2}l9 9m0 -9l-9 9", x - 4.5, y - 4.5)
}

fn down(x: f64, y: f64) -> String {
    format!("M{:.2} {:.2}h10l-5 9z", x - 5.0, y - 5.0)
}

fn up(x: f64, y: f64) -> String {
    format!("M{:.2} {:.2}h10l-5 -9z", x - 5.0, y + 5.0)
}

fn tick(x: f64, y: f64) -> String {
    format!("M{x:.2} {:.2}v10", y - 5.0)
}

fn diamond(x: f64, y: f64) -> String {
    format!("M{x:.2} {:.2}l5 5l-5 5l-5 -5z", y - 5.0)
}
