//! The stages of a pod's start as stacked bars, in SVG.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const BAR: f64 = 34.0;
const GAP: f64 = 26.0;
const COLOURS: [&str; 12] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac", "#86bcb6", "#d37295",
];

/// One bar a contestant, scaled to its own total, which is written at its end.
pub(crate) fn stages(all: &[(String, Vec<(String, f64)>)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in all.iter().flat_map(|(_, stages)| stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let legend_rows = names.len().div_ceil(4) as f64;
    let height = 20.0 + all.len() as f64 * (BAR + GAP) + legend_rows * 20.0 + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let colour = |name: &str| COLOURS[names.iter().position(|n| *n == name).unwrap_or(0) % COLOURS.len()];
    for (row, (name, stages)) in all.iter().enumerate() {
        let y = 20.0 + row as f64 * (BAR + GAP);
        let total: f64 = stages.iter().map(|(_, millis)| millis).sum();
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + BAR / 2.0 + 4.0);
        let mut x = LEFT;
        for (stage, millis) in stages {
            let width = (WIDTH - LEFT - 80.0) * millis / total.max(f64::MIN_POSITIVE);
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"><title>{stage}: {millis:.2} ms</title></rect>",
                colour(stage)
            );
            if width > 34.0 {
                let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"white\">{millis:.1}</text>", x + width / 2.0, y + BAR / 2.0 + 4.0);
            }
            x += width;
        }
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{total:.1} ms</text>", x + 8.0, y + BAR / 2.0 + 4.0);
    }
    let top = 30.0 + all.len() as f64 * (BAR + GAP);
    for (index, name) in names.iter().enumerate() {
        let (x, y) = (20.0 + (index % 4) as f64 * 210.0, top + (index / 4) as f64 * 20.0);
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{y}\">{name}</text>", y - 10.0, colour(name), x + 18.0);
    }
    out.push_str("</svg>\n");
    out
}
