//! A minimal SVG writer.

use std::fmt::Write as _;

/// A drawing.
#[derive(Debug, Default)]
pub(crate) struct Svg(String);

/// A rectangle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Svg {
    /// Adds a filled rectangle; `title` is its tooltip.
    pub(crate) fn area(&mut self, area: Area, style: &str, title: &str) {
        let Area { x, y, width, height } = area;
        self.add(&format!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" {style}><title>{}</title></rect>"#,
            escaped(title)
        ));
    }

    /// Adds a path.
    pub(crate) fn path(&mut self, points: &str, style: &str, title: &str) {
        self.add(&format!(r#"<path d="{points}" {style}><title>{}</title></path>"#, escaped(title)));
    }

    /// Adds a line of text, anchored at `x` as `style` says.
    pub(crate) fn words(&mut self, x: f64, y: f64, style: &str, words: &str) {
        self.add(&format!(r#"<text x="{x:.2}" y="{y:.2}" {style}>{}</text>"#, escaped(words)));
    }

    /// Returns the whole drawing.
    pub(crate) fn finish(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.0
        )
    }

    fn add(&mut self, element: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
