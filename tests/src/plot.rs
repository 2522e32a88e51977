//! Cumulative distributions as pictures.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::distribution::Distribution;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 350.0;
/// Colours that can be told apart by everybody (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000",
];

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Its values.
    pub values: Distribution,
}

/// Draws for each series which share of its values, in percent, is at most so great, and writes that
/// to `path` as SVG. The horizontal axis, `axis`, is logarithmic; 0 is drawn as 1.
///
/// # Errors
/// If the file cannot be written.
pub fn plot(path: &Path, title: &str, axis: &str, series: &[Series]) -> io::Result<()> {
    fs::write(path, svg(title, axis, series))
}

/// The horizontal axis: whole decades.
struct Axis {
    first: i32,
    last: i32,
}

impl Axis {
    fn of(series: &[Series]) -> Self {
        let ends = series.iter().filter_map(|series| {
            let values = series.values.values();
            Some((*values.first()?, *values.last()?))
        });
        let (least, most) = ends.fold((u64::MAX, 1), |(least, most), (first, last)| {
            (least.min(first), most.max(last))
        });
        let decades = |value: u64| (value.max(1) as f64).log10();
        let last = decades(most).ceil() as i32;
        let first = (decades(least.min(most)).floor() as i32).min(last - 1);
        Self { first, last }
    }

    fn place(&self, value: u64) -> f64 {
        let decades = (value.max(1) as f64).log10() - f64::from(self.first);
        LEFT + (RIGHT - LEFT) * decades / f64::from(self.last - self.first)
    }
}

fn svg(title: &str, axis: &str, series: &[Series]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_svg(&mut text, title, axis, series);
    text
}

fn write_svg(text: &mut String, title: &str, axis: &str, series: &[Series]) -> std::fmt::Result {
    let height = HEIGHT + 20.0 * series.len() as f64;
    let middle = (LEFT + RIGHT) / 2.0;
    writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(text, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    label(
        text,
        middle,
        28.0,
        "middle",
        &format!("<tspan font-size=\"16\">{}</tspan>", escape(title)),
    )?;
    let scale = Axis::of(series);
    for decade in scale.first..=scale.last {
        let value = 10f64.powi(decade.max(0)) as u64;
        let x = scale.place(value);
        line(text, [x, TOP, x, BOTTOM], "#dddddd")?;
        label(text, x, BOTTOM + 18.0, "middle", &value.to_string())?;
    }
    for percent in [0u32, 25, 50, 75, 100] {
        let y = share(f64::from(percent) / 100.0);
        line(text, [LEFT, y, RIGHT, y], "#dddddd")?;
        label(text, LEFT - 8.0, y + 4.0, "end", &format!("{percent}"))?;
    }
    line(text, [LEFT, BOTTOM, RIGHT, BOTTOM], "black")?;
    line(text, [LEFT, TOP, LEFT, BOTTOM], "black")?;
    label(text, middle, BOTTOM + 42.0, "middle", &escape(axis))?;
    let (x, y) = (22.0, (TOP + BOTTOM) / 2.0);
    writeln!(
        text,
        r#"<text x="{x}" y="{y}" text-anchor="middle" transform="rotate(-90 {x} {y})">percent of all</text>"#
    )?;
    for (index, (series, colour)) in series.iter().zip(COLOURS.iter().cycle()).enumerate() {
        curve(text, &scale, &series.values, colour)?;
        let y = BOTTOM + 70.0 + 20.0 * index as f64;
        line(text, [LEFT, y - 4.0, LEFT + 24.0, y - 4.0], colour)?;
        let legend = format!("{}: {}", series.name, series.values);
        label(text, LEFT + 32.0, y, "start", &escape(&legend))?;
    }
    writeln!(text, "</svg>")
}

/// Steps at each value; those that nobody could tell apart are drawn as one.
fn curve(text: &mut String, scale: &Axis, values: &Distribution, colour: &str) -> std::fmt::Result {
    let values = values.values();
    let Some(first) = values.first() else {
        return Ok(());
    };
    let mut path = format!("M{:.1} {BOTTOM}", scale.place(*first));
    let mut drawn = scale.place(*first);
    for (index, value) in values.iter().enumerate() {
        let next = values.get(index + 1).map(|next| scale.place(*next));
        let x = scale.place(*value);
        // The last of those at the same place says how high the step is.
        if next.is_some_and(|next| next - drawn < 0.5) {
            continue;
        }
        let y = share((index + 1) as f64 / values.len() as f64);
        write!(path, "H{x:.1}V{y:.1}")?;
        drawn = next.unwrap_or(x);
    }
    path += &format!("H{RIGHT}");
    writeln!(
        text,
        r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#
    )
}

/// The height of a share of all (0 to 1).
fn share(of_all: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * of_all
}

fn line(text: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str) -> std::fmt::Result {
    writeln!(
        text,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}"/>"#
    )
}

/// `content` is SVG already.
fn label(text: &mut String, x: f64, y: f64, anchor: &str, content: &str) -> std::fmt::Result {
    writeln!(
        text,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{content}</text>"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: Vec<u64>) -> Series {
        Series {
            name: name.into(),
            values: Distribution::new(values),
        }
    }

    #[test]
    fn a_picture_names_its_axes_and_series() {
        let all = [
            series("alone & idle", (90..110).collect()),
            series("beside <others>", vec![100, 2_000, 2_000, 4_100]),
        ];
        let picture = svg("Gaps", "microseconds", &all);
        for expected in [
            ">Gaps<",
            ">microseconds<",
            ">percent of all<",
            ">10<",
            ">10000<",
            "alone &amp; idle: median 99",
            "beside &lt;others>: median 2000",
        ] {
            assert!(picture.contains(expected), "no {expected} in {picture}");
        }
        assert_eq!(picture.matches("<path").count(), 2);
        let document = picture.trim_end();
        assert!(document.starts_with("<svg ") && document.ends_with("</svg>"));
        // Three quarters of the second series are at most 2000.
        let y = share(0.75);
        assert!(picture.contains(&format!("V{y:.1}")), "{picture}");
    }

    #[test]
    fn strange_series_have_a_picture() {
        for values in [vec![], vec![0], vec![1], vec![u64::MAX, 0], vec![5; 1000]] {
            let picture = svg("", "", &[series("", values)]);
            assert!(
                !picture.contains("NaN") && !picture.contains("inf"),
                "{picture}"
            );
        }
        assert!(svg("", "", &[]).contains("</svg>"));
        let many = svg("", "", &[series("", (0..100_000).collect())]);
        assert!(many.len() < 60_000, "{} bytes", many.len());
    }
}
