//! A sweep as a page that can be sent to a colleague: plots and the numbers behind them, nothing from elsewhere, light and dark.

use processor::backtest::{Point, Sweep};

use super::plot::{Line, Plot, escaped, number};
use super::{distinct, hold, shown};

const STYLE: &str = include_str!("page.css");

pub fn page(swept: &Sweep) -> String {
    let title = format!("{}: {} and hold", swept.rule, swept.limit);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{0}</title><style>{STYLE}</style></head><body><main><h1>{0}</h1>",
        escaped(&title)
    );
    html += &about(swept);
    html += "<div class=\"plots\">";
    let burden = plot(swept, "Burden", "alerts per patient-day", |point| Some(point.per_patient_day), None);
    html += &figure("Burden", "alerts per patient-day", &burden);
    if let Some(events) = swept.events {
        let detected = plot(swept, "Events detected", "events detected", |point| point.detected.map(|n| n as f64), Some(events as f64));
        html += &figure("Events detected", &format!("of {events}"), &detected);
        let lead = plot(swept, "Lead time", "hours, median", |point| point.median_lead_hours, None);
        html += &figure("Lead time", "median hours from the first alert to the event", &lead);
        html += &figure("What detection costs", "events detected, by alerts per patient-day", &trade(swept, events));
    }
    html += "</div>";
    html += &table(swept);
    html += &format!(
        "<p class=\"fine\">Rules {}, data {}, engine {}. The rule was tried alone, by the engine that watches patients, over inputs in the order in which they \
         arrived. A patient's own limit stands wherever there is one. A patient-day is a day (UTC) on which something of the patient was measured.</p></main></body></html>\n",
        escaped(&swept.rules),
        escaped(&swept.data.hash),
        escaped(swept.engine)
    );
    html
}

fn about(swept: &Sweep) -> String {
    let data = &swept.data;
    let mut text = format!(
        "<p>{} readings of {} patients on {} patient-days, arrived from {} to {}.",
        data.readings, data.patients, data.patient_days, data.first_arrived, data.last_arrived
    );
    if let (Some(events), Some(window)) = (swept.events, swept.window_hours) {
        text += &format!(" {events} labelled events; an alert is about one if it was raised within {window} h before it, or stood then.");
    }
    text + "</p>"
}

fn figure(title: &str, what: &str, svg: &str) -> String {
    format!("<figure><figcaption><b>{}</b> {}</figcaption>{svg}</figure>", escaped(title), escaped(what))
}

/// A line for each hold, over the thresholds.
fn plot(swept: &Sweep, title: &str, y: &str, of: impl Fn(&Point) -> Option<f64>, most: Option<f64>) -> String {
    let line = |seconds: i64| {
        let mut points: Vec<(f64, Option<f64>)> =
            swept.points.iter().filter(|point| point.hold_s == seconds).map(|point| (point.threshold, of(point))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: format!("held {}", hold(seconds)), points }
    };
    let lines = distinct(&swept.points, |point| point.hold_s).into_iter().map(line).collect();
    Plot { title, x: &swept.limit, y, most, from_zero: false, lines }.svg()
}

fn trade(swept: &Sweep, events: u64) -> String {
    let line = |seconds: i64| {
        let mut points: Vec<(f64, Option<f64>)> =
            swept.points.iter().filter(|point| point.hold_s == seconds).map(|point| (point.per_patient_day, point.detected.map(|n| n as f64))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: format!("held {}", hold(seconds)), points }
    };
    let lines = distinct(&swept.points, |point| point.hold_s).into_iter().map(line).collect();
    Plot { title: "What detection costs", x: "alerts per patient-day", y: "events detected", most: Some(events as f64), from_zero: true, lines }.svg()
}

fn table(swept: &Sweep) -> String {
    let shown = shown(swept);
    let mut html = format!("<table><thead><tr><th>{}</th><th>hold</th>", escaped(&swept.limit));
    for (name, _) in &shown {
        html += &format!("<th>{}</th>", escaped(name));
    }
    html += "</tr></thead><tbody>";
    for point in &swept.points {
        html += &format!("<tr><td>{}</td><td>{}</td>", number(point.threshold), hold(point.hold_s));
        for (_, say) in &shown {
            html += &format!("<td>{}</td>", escaped(&say(point)));
        }
        html += "</tr>";
    }
    html + "</tbody></table>"
}
