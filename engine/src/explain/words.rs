//! An explanation in words, for whoever stands at the bed.

use std::fmt::{self, Display, Formatter};

use super::{Explained, Explanation, Said, Used, Verdict};

/// Samples of a column that are listed one by one: the newest.
const SHOWN: usize = 12;

/// Times as the clock on the wall has them, the date only where it is another.
fn time(at: schemas::EventTime, beside: schemas::EventTime) -> String {
    let (text, other) = (at.to_string(), beside.to_string());
    match (text.split_once('T'), other.split_once('T')) {
        (Some((date, clock)), Some((day, _))) => {
            let clock = clock.split(['.', 'Z']).next().unwrap_or_default();
            if date == day { clock.to_owned() } else { format!("{date} {clock}") }
        }
        _ => text,
    }
}

fn says(says: Option<bool>) -> &'static str {
    match says {
        Some(true) => "TRUE",
        Some(false) => "FALSE",
        None => "no evidence",
    }
}

/// From the lowest to the highest, and how many are of note.
fn range(samples: &[Used]) -> String {
    let values = || samples.iter().map(|sample| sample.value);
    let count = |of: &dyn Fn(&Used) -> bool, word: &str| match samples.iter().filter(|sample| of(sample)).count() {
        0 => String::new(),
        n => format!(", {n} {word}"),
    };
    format!(
        "{} to {}{}{}",
        value(values().reduce(f64::min)),
        value(values().reduce(f64::max)),
        count(&|sample| sample.late, "late"),
        count(&|sample| sample.left_out.is_some(), "do not count")
    )
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| format!("{}", (value * 100.0).round() / 100.0))
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}), patient {}, as known at {}", self.rule_name, self.rule, self.patient, self.known_at)?;
        writeln!(f, "{}", self.sentence())?;
        if self.shadow {
            writeln!(f, "The rule is on trial: nobody is told.")?;
        }
        for (name, said) in [("when", &self.when), ("clear", &self.clear)] {
            if let Some(said) = said {
                condition(f, name, said, 0)?;
            }
        }
        for column in &self.columns {
            self.column(f, column)?;
        }
        if self.hold_s > 0 && self.when.is_some() {
            writeln!(f, "it must hold for {}", schemas::Micros::seconds(self.hold_s))?;
        }
        write!(f, "rules version {}, settings version {}", self.rules_version, self.settings_version)
    }
}

fn condition(f: &mut Formatter<'_>, name: &str, said: &Said, depth: usize) -> fmt::Result {
    let sides: Vec<String> = said.sides.iter().map(|side| value(*side)).collect();
    let sides = if sides.is_empty() { String::new() } else { format!("  ({})", sides.join(" beside ")) };
    writeln!(f, "{name:6}{}{}: {}{sides}", "  ".repeat(depth), said.text, says(said.says))?;
    said.parts.iter().try_for_each(|part| condition(f, "", part, depth + 1))
}

impl Explanation {
    /// Why it has raised, or why not.
    pub fn sentence(&self) -> String {
        let now = self.known_at.as_event();
        match &self.verdict {
            Verdict::Raised { since, raised_at, summary, .. } => {
                let since = if since == raised_at { String::new() } else { format!(", so since {}", time(*since, now)) };
                format!("An alert is open, raised for {}{since}: {summary}.", time(*raised_at, now))
            }
            Verdict::Holding { since, raises_at, .. } => {
                let next =
                    raises_at.map_or_else(String::new, |due| format!(" It raises at {} if nothing speaks against it until then.", time(due.as_event(), now)));
                format!("Not raised yet: it is so since {}, and must hold for {}.{next}", time(*since, now), schemas::Micros::seconds(self.hold_s))
            }
            Verdict::Silenced { by } => format!("Not raised, although it is so: a more urgent alert of the same condition is open, of {by}."),
            Verdict::TrueAndSilent => "Not raised, although it is so: it was told already as over, or another alert stands for it.".to_owned(),
            Verdict::NotSo => "Not raised: it is not so.".to_owned(),
            Verdict::TooLittleEvidence => format!("Not raised: too little was measured to say. {}", self.lacking()),
            Verdict::NothingHeard => "Not raised: nothing that the rule looks at was ever heard of this patient.".to_owned(),
            Verdict::NotMonitored => "Not raised: the patient was not monitored.".to_owned(),
            Verdict::Paused => match &self.paused {
                Some(pause) => {
                    let until = pause.until.map_or_else(|| "until further notice".to_owned(), |until| format!("until {}", time(until, now)));
                    let reason = if pause.reason.is_empty() { String::new() } else { format!(" ({})", pause.reason) };
                    format!("Not raised: alerts were paused from {} {until}{reason}.", time(pause.from, now))
                }
                None => "Not raised: what was measured last was measured in a pause.".to_owned(),
            },
            Verdict::Heard { last, raises_at } => {
                let last = last.map_or_else(|| "never heard yet".to_owned(), |last| format!("last heard for {}", time(last, now)));
                let next = raises_at.map_or_else(String::new, |due| format!(" It raises at {} if nothing is heard until then.", time(due.as_event(), now)));
                format!("Not raised: {last}.{next}")
            }
        }
    }

    fn lacking(&self) -> String {
        let counting = |column: &Explained| column.samples.iter().filter(|sample| sample.left_out.is_none()).count();
        let lacking = self.columns.iter().filter(|column| column.value.is_none());
        let of = lacking.map(|column| format!("{} has {} of {} readings", column.text, counting(column), self.needs));
        let mut text = of.collect::<Vec<_>>().join("; ");
        text.push('.');
        text
    }

    fn column(&self, f: &mut Formatter<'_>, column: &Explained) -> fmt::Result {
        let now = self.known_at.as_event();
        let own = match column.own_limit {
            Some(true) => ", this patient's own",
            Some(false) => ", the rule's",
            None => "",
        };
        write!(f, "{} = {}{own}", column.text, value(column.value))?;
        if let (Some(after), Some(to)) = (column.after, column.to) {
            write!(f, ", after {} up to {}", time(after, now), time(to, now))?;
        }
        writeln!(f)?;
        for day in &column.days {
            let mean = value(Some(day.mean()));
            writeln!(f, "  day from {}: {} readings, mean {mean}, {} to {}, last {}", day.start(), day.count, day.lowest, day.highest, day.last)?;
        }
        let skipped = if column.samples.len() > SHOWN { column.samples.len() - SHOWN } else { 0 };
        if skipped > 0 {
            writeln!(f, "  {skipped} before:  {}", range(column.samples.get(..skipped).unwrap_or_default()))?;
        }
        for sample in column.samples.iter().skip(skipped) {
            write!(f, "  {}  {}  {}", time(sample.at, now), value(Some(sample.value)), sample.device)?;
            if sample.late {
                write!(f, ", late: received {}", time(sample.received_at, now))?;
            }
            if sample.corrected_clock {
                f.write_str(", its clock was corrected")?;
            }
            if sample.typed {
                f.write_str(", typed")?;
            }
            if let Some(reason) = sample.left_out {
                write!(f, ", does not count: {reason}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
