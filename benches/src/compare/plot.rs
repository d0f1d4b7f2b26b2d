//! Bars and lines as SVG, without a library: what is plotted here is a few numbers.

use std::fmt::Write;

const COLOURS: [&str; 8] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f",
];
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;

/// One line of a plot: its name, and a value for each place (none where it was not measured).
pub type Series = (String, Vec<Option<f64>>);

/// A plot of `series` over `places`, from 0 up.
#[must_use]
pub fn lines(title: &str, unit: &str, places: &[String], series: &[Series]) -> String {
    let (mut out, top) = frame(title, unit, series);
    let step = (WIDTH - LEFT - RIGHT) / (places.len().max(2) - 1) as f64;
    let x = |place: usize| LEFT + step * place as f64;
    for (place, name) in places.iter().enumerate() {
        label(&mut out, x(place), name);
    }
    for (number, (_, values)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let measured = values
            .iter()
            .enumerate()
            .filter_map(|(p, v)| Some((p, (*v)?)));
        let points: Vec<(f64, f64)> = measured.map(|(p, v)| (x(p), y(v, top))).collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
    out + "</svg>\n"
}

/// Groups of bars, one group for each place.
#[must_use]
pub fn bars(title: &str, unit: &str, places: &[String], series: &[Series]) -> String {
    let (mut out, top) = frame(title, unit, series);
    let group = (WIDTH - LEFT - RIGHT) / places.len().max(1) as f64;
    let width = group * 0.8 / series.len().max(1) as f64;
    for (place, name) in places.iter().enumerate() {
        label(&mut out, LEFT + group * (place as f64 + 0.5), name);
        for (number, (_, values)) in series.iter().enumerate() {
            let Some(value) = values.get(place).copied().flatten() else {
                continue;
            };
            let x = LEFT + group * (place as f64 + 0.1) + width * number as f64;
            let (y, colour) = (y(value, top), COLOURS[number % COLOURS.len()]);
            let height = HEIGHT - BOTTOM - y;
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"><title>{value:.2}</title></rect>"
            );
        }
    }
    out + "</svg>\n"
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top
}

fn label(out: &mut String, x: f64, name: &str) {
    let y = HEIGHT - BOTTOM + 18.0;
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
        escaped(name)
    );
}

/// Title, axis and legend; gives the axis's end too.
fn frame(title: &str, unit: &str, series: &[Series]) -> (String, f64) {
    let values = series
        .iter()
        .flat_map(|(_, values)| values.iter().flatten());
    let top = nice(values.copied().fold(0.0, f64::max));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (y, right) = (y(value, top), WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{}\" font-size=\"11\">{}</text>",
        TOP - 6.0,
        escaped(unit)
    );
    for (number, (name, _)) in series.iter().enumerate() {
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 18.0 * number as f64);
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            x + 18.0,
            y + 11.0,
            escaped(name)
        );
    }
    (out, top)
}

/// The next of 1, 2, 4, 10 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    let fits = steps.iter().find(|step| **step * power >= value);
    fits.copied().unwrap_or(10.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_well_formed() {
        let series = [("a < b".to_owned(), vec![Some(1.0), None, Some(3.5)])];
        let places = ["1".to_owned(), "2".to_owned(), "4".to_owned()];
        for plot in [
            lines("t", "MB/s", &places, &series),
            bars("t", "MB/s", &places, &series),
        ] {
            assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"));
            assert!(plot.contains("a &lt; b") && !plot.contains("NaN"));
        }
        assert_eq!(nice(3.5), 4.0);
        assert_eq!(nice(1700.0), 2000.0);
    }
}
