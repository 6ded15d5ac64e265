//! The stages of a pod's start as stacked bars, in SVG.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const BAR: f64 = 34.0;
const GAP: f64 = 26.0;
const COLOURS: [&str; 12] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac", "#86bcb6", "#d37295",
];

/// Named parts of a whole, milliseconds each, in their order.
pub type Parts = Vec<(String, f64)>;

/// What the length of a bar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Every bar is as long: where the time goes within each.
    Own,
    /// A millisecond is as long in every bar: how they compare.
    Common,
}

/// One bar a contestant, with its total at its end.
pub fn bars(all: &[(String, Parts)], scale: Scale) -> String {
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
    let total = |parts: &Parts| parts.iter().map(|(_, millis)| millis).sum::<f64>();
    let longest = all.iter().map(|(_, parts)| total(parts)).fold(0.0, f64::max);
    let colour = |name: &str| COLOURS[names.iter().position(|n| *n == name).unwrap_or(0) % COLOURS.len()];
    for (row, (name, stages)) in all.iter().enumerate() {
        let y = 20.0 + row as f64 * (BAR + GAP);
        let total = total(stages);
        let full = if scale == Scale::Own { total } else { longest };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + BAR / 2.0 + 4.0,
            harmless(name)
        );
        let mut x = LEFT;
        for (stage, millis) in stages {
            let width = (WIDTH - LEFT - 80.0) * millis / full.max(f64::MIN_POSITIVE);
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"><title>{}: {millis:.2} ms</title></rect>",
                colour(stage),
                harmless(stage)
            );
            if width > 34.0 {
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"white\">{millis:.1}</text>",
                    x + width / 2.0,
                    y + BAR / 2.0 + 4.0
                );
            }
            x += width;
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{total:.1} ms</text>",
            x + 8.0,
            y + BAR / 2.0 + 4.0
        );
    }
    let top = 30.0 + all.len() as f64 * (BAR + GAP);
    for (index, name) in names.iter().enumerate() {
        let (x, y) = (20.0 + (index % 4) as f64 * 210.0, top + (index / 4) as f64 * 20.0);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 10.0,
            colour(name),
            x + 18.0,
            harmless(name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A name as text of XML: a runtime says its own.
fn harmless(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(svg: &str) -> Vec<f64> {
        let bars = svg.lines().filter(|l| l.contains("<title>"));
        bars.filter_map(|l| l.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn a_bar_is_as_long_as_its_scale_says() {
        let all = [
            ("a".to_owned(), vec![("x".to_owned(), 10.0)]),
            ("b".to_owned(), vec![("x".to_owned(), 20.0)]),
        ];
        let own = widths(&bars(&all, Scale::Own));
        assert_eq!(own[0], own[1]);
        let common = widths(&bars(&all, Scale::Common));
        assert_eq!(common[0] * 2.0, common[1]);
    }

    #[test]
    fn a_name_cannot_leave_its_place() {
        let svg = bars(&[("<script>".to_owned(), vec![("a&b".to_owned(), 1.0)])], Scale::Own);
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"), "{svg}");
        assert!(svg.contains("a&amp;b"), "{svg}");
    }
}
