//! A line chart as SVG: lines of one hue, from light to dark in their order, each named at its end. Colours come from the page.

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 112.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// Between two names at the ends of lines.
const APART: f64 = 15.0;

pub struct Line {
    pub name: String,
    /// `None`: nothing is known there, and the line has a gap.
    pub points: Vec<(f64, Option<f64>)>,
}

pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// Up to which value, at least.
    pub most: Option<f64>,
    /// The axis below begins at 0 and has round numbers; otherwise it has the values that there are.
    pub from_zero: bool,
    pub lines: Vec<Line>,
}

/// Round numbers from 0 to a bit more than `most`.
fn ticks(most: f64) -> Vec<f64> {
    let rough = (most / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
    (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick < most + step).collect()
}

pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot<'_> {
    pub fn svg(&self) -> String {
        let mut marks: Vec<f64> = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        if self.from_zero {
            marks = ticks(marks.last().copied().unwrap_or(0.0));
        }
        let (low, high) = (marks.first().copied().unwrap_or(0.0), marks.last().copied().unwrap_or(0.0));
        let ys = self.lines.iter().flat_map(|line| line.points.iter().filter_map(|point| point.1));
        let ticks = ticks(ys.fold(self.most.unwrap_or(0.0), f64::max));
        let top = ticks.last().copied().unwrap_or(1.0).max(1e-9);
        let x = |value: f64| if high > low { LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT) } else { (LEFT + WIDTH - RIGHT) / 2.0 };
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(self.title));
        for tick in &ticks {
            let at = y(*tick);
            svg += &format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", WIDTH - RIGHT);
            svg += &format!("<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 8.0, at + 4.0, number(*tick));
        }
        let every = marks.len().div_ceil(12);
        for mark in marks.iter().step_by(every.max(1)) {
            svg += &format!("<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{}\">{}</text>", x(*mark), HEIGHT - BOTTOM + 18.0, number(*mark));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        svg += &format!("<text class=\"axis\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{}\">{}</text>", HEIGHT - 6.0, escaped(self.x));
        for (n, line) in self.lines.iter().enumerate() {
            svg += &self.line(line, n, &x, &y);
        }
        svg += &self.names(&y);
        svg + "</svg>"
    }

    fn line(&self, line: &Line, n: usize, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
        let mut svg = String::new();
        let mut path = String::new();
        let mut drawing = false;
        for (at, value) in &line.points {
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            path += &format!("{}{:.1} {:.1}", if drawing { "L" } else { "M" }, x(*at), y(*value));
            drawing = true;
        }
        svg += &format!("<path class=\"line s{n}\" d=\"{path}\"/>");
        for (at, value) in line.points.iter().filter_map(|(at, value)| Some((at, (*value)?))) {
            let said = format!("{} {}, {}: {} {}", self.x, number(*at), line.name, number(value), self.y);
            svg += &format!("<circle class=\"dot s{n}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}</title></circle>", x(*at), y(value), escaped(&said));
        }
        svg
    }

    /// At the right, in the order in which the lines end, moved apart where they would meet.
    fn names(&self, y: &dyn Fn(f64) -> f64) -> String {
        let last = |line: &Line| line.points.iter().rev().find_map(|(_, value)| Some(y((*value)?)));
        let mut ends: Vec<(usize, f64)> = self.lines.iter().enumerate().filter_map(|(n, line)| Some((n, last(line)?))).collect();
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut svg = String::new();
        let mut free = f64::NEG_INFINITY;
        for (n, y) in ends {
            let at = y.max(free);
            free = at + APART;
            let name = self.lines.get(n).map_or("", |line| line.name.as_str());
            let (from, to) = (WIDTH - RIGHT + 10.0, WIDTH - RIGHT + 22.0);
            svg += &format!("<line class=\"line s{n}\" x1=\"{from}\" x2=\"{to}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            svg += &format!("<text class=\"name\" x=\"{}\" y=\"{:.1}\">{}</text>", to + 6.0, at + 4.0, escaped(name));
        }
        svg
    }
}
