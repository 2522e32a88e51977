//! Draws what the layout has placed, as SVG.

use std::fmt::Write;

use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;

/// Space around the picture.
const MARGIN: f64 = 24.0;
/// Height of a line of text.
const LINE: f64 = 16.0;
/// Length and width of an arrow's head.
const HEAD: (f64, f64) = (9.0, 7.0);

/// Width of a letter, at most; the font is that of the reader.
const LETTER: f64 = 7.6;

/// Room that a box with these lines of text needs.
pub(super) fn box_size(lines: &[String]) -> Point {
    let letters = lines.iter().map(|line| line.chars().count()).max();
    let width = letters.unwrap_or(0) as f64 * LETTER + 20.0;
    Point::new(width.max(90.0), lines.len() as f64 * LINE + 16.0)
}

/// Kinds of arrows, with the colour of each, as the legend names them.
const LEGEND: [(&str, &str, &str); 6] = [
    (
        "frames",
        "#1f5fbf",
        "frame channel: Ethernet frames both ways",
    ),
    ("call", "#222222", "protected call"),
    ("notification", "#7a3fa0", "notification"),
    ("memory", "#2c7f4f", "shared memory, from writer to reader"),
    (
        "registers",
        "#8a6d1f",
        "registers or IO ports; with an arrow back: interrupts",
    ),
    ("dma", "#c0392b", "DMA that the IOMMU allows"),
];

const STYLE: &str = "\
text { font-family: 'DejaVu Sans', Verdana, sans-serif; font-size: 12px; fill: #222222; }
text.title { font-weight: bold; font-size: 13px; }
text.label { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
rect.pd { fill: #e9f1fb; stroke: #1f5fbf; stroke-width: 1.5px; }
rect.device { fill: #f3efe2; stroke: #8a6d1f; stroke-width: 1.5px; }
path.line { fill: none; stroke-width: 1.5px; }
path.frames { stroke-width: 3px; }
path.notification { stroke-dasharray: 6 4; }
path.memory { stroke-dasharray: 2 3; }
";

/// Collects what is drawn; arrows lie below boxes, text above both.
pub(super) struct Canvas {
    arrows: String,
    boxes: String,
    texts: String,
    low: Point,
    high: Point,
    /// Boxes, to tell their text from an arrow's.
    places: Vec<(Point, Point)>,
}

impl Canvas {
    /// An empty one.
    pub(super) fn new() -> Canvas {
        Canvas {
            arrows: String::new(),
            boxes: String::new(),
            texts: String::new(),
            low: Point::splat(f64::MAX),
            high: Point::splat(f64::MIN),
            places: Vec::new(),
        }
    }

    fn grow(&mut self, point: Point) {
        self.low.x = self.low.x.min(point.x);
        self.low.y = self.low.y.min(point.y);
        self.high.x = self.high.x.max(point.x);
        self.high.y = self.high.y.max(point.y);
    }

    /// The whole picture.
    pub(super) fn finish(mut self) -> String {
        if self.low.x > self.high.x {
            self.grow(Point::zero());
        }
        let left = self.low.x - MARGIN;
        let top = self.low.y - MARGIN;
        let legend_top = self.high.y + 2.0 * MARGIN;
        let width = (self.high.x - left + MARGIN).max(460.0);
        let height = legend_top - top + (LEGEND.len() + 1) as f64 * 20.0 + MARGIN / 2.0;
        let mut style = STYLE.to_string();
        let mut legend = String::new();
        for (index, (class, colour, meaning)) in LEGEND.iter().enumerate() {
            style += &format!("path.{class} {{ stroke: {colour}; }}\n");
            style += &format!("path.head.{class} {{ fill: {colour}; stroke: none; }}\n");
            let y = legend_top + index as f64 * 20.0;
            let x = left + MARGIN;
            legend += &format!(
                "<path class=\"line {class}\" d=\"M {x:.1} {y:.1} h 40\"/>\n<text x=\"{:.1}\" y=\"{:.1}\">{meaning}</text>\n",
                x + 52.0,
                y + 4.0
            );
        }
        legend += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\">Not drawn: init, which made all this and handles the faults of all.</text>\n",
            left + MARGIN,
            legend_top + LEGEND.len() as f64 * 20.0 + 4.0
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"{left:.1} {top:.1} {width:.1} {height:.1}\">\n\
             <style>\n{style}</style>\n\
             <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             {}{}{}{legend}</svg>\n",
            self.arrows, self.boxes, self.texts
        )
    }

    fn head(&mut self, tip: Point, from: Point, class: &str) {
        let along = tip.sub(from);
        let length = along.length().max(0.001);
        let (x, y) = (along.x / length, along.y / length);
        let (long, wide) = HEAD;
        let base = Point::new(tip.x - x * long, tip.y - y * long);
        let half = wide / 2.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.arrows,
            "<path class=\"head {class}\" d=\"M {:.1} {:.1} L {:.1} {:.1} L {:.1} {:.1} Z\"/>",
            tip.x,
            tip.y,
            base.x - y * half,
            base.y + x * half,
            base.x + y * half,
            base.y - x * half
        );
    }
}

impl RenderBackend for Canvas {
    fn draw_rect(
        &mut self,
        corner: Point,
        size: Point,
        look: &StyleAttr,
        properties: Option<String>,
        _clip: Option<ClipHandle>,
    ) {
        self.grow(corner);
        self.grow(corner.add(size));
        self.places.push((corner, corner.add(size)));
        let _ = writeln!(
            self.boxes,
            "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{}\"/>",
            properties.unwrap_or_default(),
            corner.x,
            corner.y,
            size.x,
            size.y,
            look.rounded
        );
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_text(&mut self, center: Point, text: &str, _: &StyleAttr) {
        let in_box = self.places.iter().any(|(low, high)| {
            (low.x..=high.x).contains(&center.x) && (low.y..=high.y).contains(&center.y)
        });
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let first = center.y - LINE * (lines.len() as f64 - 1.0) / 2.0;
        for (index, line) in lines.iter().enumerate() {
            let half = Point::new(line.chars().count() as f64 * LETTER / 2.0, LINE);
            self.grow(center.sub(half));
            self.grow(center.add(half));
            let class = match (in_box, index) {
                (true, 0) => "title",
                (true, _) => "detail",
                (false, _) => "label",
            };
            let _ = writeln!(
                self.texts,
                "<text class=\"{class}\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                center.x,
                first + index as f64 * LINE + 4.0,
                escape(line)
            );
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _dashed: bool,
        head: (bool, bool),
        _look: &StyleAttr,
        properties: Option<String>,
        _text: &str,
    ) {
        let class = properties.unwrap_or_default();
        let [first, second, rest @ ..] = path else {
            return;
        };
        // The first pair is a point and the control point after it, all others
        // are the control point before a point and that point.
        let mut line = format!(
            "M {:.1} {:.1} C {:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
            first.0.x,
            first.0.y,
            first.1.x,
            first.1.y,
            second.0.x,
            second.0.y,
            second.1.x,
            second.1.y
        );
        for (control, point) in rest {
            let _ = write!(
                line,
                " S {:.1} {:.1} {:.1} {:.1}",
                control.x, control.y, point.x, point.y
            );
        }
        for (control, point) in path {
            self.grow(*control);
            self.grow(*point);
        }
        let _ = writeln!(self.arrows, "<path class=\"line {class}\" d=\"{line}\"/>");
        if head.0 {
            self.head(first.0, first.1, &class);
        }
        if let (true, Some((control, tip))) = (head.1, path.last()) {
            self.head(*tip, *control, &class);
        }
    }

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

/// Text as it may stand in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
