//! SenML (RFC 8428), JSON and CBOR: the last segment of a record's name is the metric, the topic says whose it is.

mod pack;
#[cfg(test)]
mod tests;

use schemas::{Metric, Micros, Reason};

use crate::parsed::{self, Entry, Parsed, Read, Refused, Source, Stamp, cut};
use pack::Content;
pub(crate) use pack::Resolved;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Cbor,
}

pub(crate) fn parse(payload: &[u8], encoding: Encoding) -> Result<Parsed, Refused> {
    let records = pack::resolve(payload, encoding)?;
    // one topic is one device: a pack that names two things would give one's readings to the other's patient
    let things = |record: &Resolved| split(&record.name).0.to_owned();
    let first = records.first().map(things);
    let other = records.iter().map(things).find(|thing| first.as_ref() != Some(thing));
    let entries = records.into_iter().map(|record| {
        let read = match (&first, &other) {
            (Some(first), Some(other)) => Err(Refused(
                Reason::NotAllowed,
                format!("the pack names two things, `{}` and `{}`; send each in a pack of its own, to its own topic", cut(first), cut(other)),
            )),
            _ => read(&record),
        };
        let metric = metric(split(&record.name).1).ok();
        let stamped_at = stamp(&record).ok().and_then(Stamp::stamped_at);
        Entry { source: Source::Senml(encoding, record), device: None, metric, stamped_at, read }
    });
    Ok(Parsed { entries: entries.collect(), ..Parsed::default() })
}

/// The thing and the quantity: `urn:dev:ow:10e2073a0108006:heart_rate`.
fn split(name: &str) -> (&str, &str) {
    name.rfind([':', '/']).map_or(("", name), |at| (&name[..at], &name[at + 1..]))
}

/// A metric's own name, its LOINC code or its MDC code.
fn metric(segment: &str) -> Result<Metric, Refused> {
    if let Some(metric) = Metric::from_loinc(segment).or_else(|| Metric::from_mdc(segment.parse().ok()?)) {
        return Ok(metric);
    }
    parsed::metric_named(segment)
}

/// SenML's units (RFC 8428, 12.1) as ours: `value × scale` in the unit.
fn unit(senml: &str) -> (&str, f64) {
    match senml {
        "beat/min" | "1/min" => ("/min", 1.0),
        "1/s" => ("/min", 60.0),
        "/" => ("%", 100.0),
        "%EL" => ("%", 1.0),
        "count" => ("{steps}", 1.0),
        "l/s" => ("L/min", 60.0),
        "mg/l" => ("mg/dL", 0.1),
        same => (same, 1.0),
    }
}

fn stamp(record: &Resolved) -> Result<Stamp, Refused> {
    match record.time {
        pack::Time::Absolute(at) => Ok(Stamp::At(at)),
        pack::Time::Relative(span) if span > crate::clock::TOLERANCE => {
            Err(Refused::bad_time(format!("`{}` is {span} ahead of now; a measurement is not of the future", cut(&record.name))))
        }
        pack::Time::Relative(span) => Ok(Stamp::Ago(Micros::ZERO - span)),
    }
}

fn read(record: &Resolved) -> Result<Read, Refused> {
    let no_vital = |what: &str| Refused::unknown_metric(format!("`{}` is {what}, not a vital sign; leave it out", cut(&record.name)));
    let sent = match &record.content {
        Content::Number(number) => *number,
        Content::Text(_) => return Err(no_vital("text")),
        Content::Bool(_) => return Err(no_vital("a boolean")),
        Content::Data(_) => return Err(no_vital("data")),
        Content::Sum(_) => return Err(no_vital("a sum over time")),
        Content::Nothing => {
            return Err(Refused::not_measured(format!("`{}`", cut(&record.name)), "the record has no value; leave it out when nothing was measured"));
        }
    };
    let segment = split(&record.name).1;
    let metric = metric(segment)?;
    if let Some(sent) = record.unit.as_deref() {
        parsed::code_allows(segment, metric, unit(sent).0)?;
    }
    let stamp = stamp(record)?;
    let Some(sent_unit) = record.unit.as_deref() else { return parsed::measured(metric, sent, None, stamp) };
    let (unit, scale) = unit(sent_unit);
    let read = parsed::measured(metric, if scale == 1.0 { sent } else { sent * scale }, Some(unit), stamp)?;
    Ok(Read { value_as_sent: sent, unit_as_sent: Some(sent_unit.to_owned()), ..read })
}
