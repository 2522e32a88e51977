//! Results as pictures.

use std::path::Path;

use plotters::prelude::*;

/// Colours that can be told apart by everybody (Okabe and Ito), one for each side.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
];
const SIZE: (u32, u32) = (960, 480);
const FONT: (&str, i32) = ("sans-serif", 14);

/// Bars side by side: a group for each name, a bar for each of `sides`. A value that is not there has no bar.
///
/// # Errors
/// If the file cannot be written.
pub fn bars(
    path: &Path,
    title: &str,
    axis: &str,
    sides: &[&str],
    groups: &[(String, Vec<Option<f64>>)],
) -> Result<(), String> {
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let values = groups
            .iter()
            .flat_map(|(_, values)| values.iter().flatten());
        let most = values.copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let width = groups.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..width.max(1.0), 0.0..most * 1.1)?;
        let name = |place: &f64| {
            let index = place.floor();
            // A label in the middle of each group.
            match (place - index - 0.5).abs() < 0.01 {
                true => groups
                    .get(index as usize)
                    .map_or(String::new(), |(name, _)| name.clone()),
                false => String::new(),
            }
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * groups.len() + 1)
            .x_label_formatter(&name)
            .y_desc(axis)
            .label_style(FONT)
            .draw()?;
        let bar = 0.8 / sides.len().max(1) as f64;
        for (side, (title, colour)) in sides.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let rectangles = groups
                .iter()
                .enumerate()
                .filter_map(|(group, (_, values))| {
                    let value = values.get(side).copied().flatten()?;
                    let left = group as f64 + 0.1 + bar * side as f64;
                    Some(Rectangle::new(
                        [(left, 0.0), (left + bar * 0.95, value)],
                        colour.filled(),
                    ))
                });
            chart
                .draw_series(rectangles)?
                .label(*title)
                .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font(FONT)
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("{}: {error}", path.display()))
}

/// A line over time, and marks where something happens.
///
/// # Errors
/// If the file cannot be written.
pub fn course(
    path: &Path,
    title: &str,
    axis: &str,
    values: &[(f64, f64)],
    marks: &[(f64, &str)],
) -> Result<(), String> {
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let end = values.last().map_or(1.0, |(time, _)| *time);
        let most = values
            .iter()
            .map(|(_, value)| *value)
            .fold(f64::MIN_POSITIVE, f64::max)
            * 1.1;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..end, 0.0..most)?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc(axis)
            .label_style(FONT)
            .draw()?;
        chart.draw_series(LineSeries::new(
            values.iter().copied(),
            COLOURS[1].stroke_width(2),
        ))?;
        for (time, what) in marks {
            chart.draw_series(LineSeries::new(
                [(*time, 0.0), (*time, most)],
                COLOURS[2].stroke_width(1),
            ))?;
            chart.draw_series([Text::new((*what).to_owned(), (*time, most * 0.97), FONT)])?;
        }
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_name_what_they_show() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("bars.svg");
        let groups = [
            ("GET <1 KB>".to_owned(), vec![Some(1.0), Some(0.2), None]),
            ("SET".to_owned(), vec![None; 3]),
        ];
        bars(
            &file,
            "Instructions",
            "of Linux's",
            &["Linux", "server", "direct"],
            &groups,
        )
        .expect("it is drawn");
        let text = std::fs::read_to_string(&file).expect("it is there");
        for expected in [
            "Instructions",
            "GET &lt;1 KB&gt;",
            "SET",
            "Linux",
            "server",
            "of Linux",
        ] {
            assert!(text.contains(expected), "no {expected}");
        }
        bars(&file, "", "", &[], &[]).expect("nothing is drawn, too");
        course(
            &file,
            "Course",
            "requests",
            &[(0.0, 1.0), (1.0, 2.0)],
            &[(0.5, "switch")],
        )
        .expect("it is drawn");
        assert!(
            std::fs::read_to_string(&file)
                .expect("it is there")
                .contains("switch")
        );
    }
}
