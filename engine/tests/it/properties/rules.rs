//! The rules that histories are played by: every word of the language, every way to be put off, and what changes when they are edited.

pub const FIRST: &str = r#"
zone = "Europe/London"
[[rule]]
id = "low"
priority = "high"
needs = 2
hold = "1 min"
when = "mean(spo2, '5 min') < limit('spo2.low', 90)"
clear = "mean(spo2, '5 min') >= limit('spo2.low', 90) + 2"
[[rule]]
id = "critical"
priority = "high"
condition = "oxygen"
confirm = "2 within 10 min"
when = "last(spo2, '5 min') < 84"
[[rule]]
id = "lower"
priority = "low"
condition = "oxygen"
hold = "5 min"
cap = "20 min"
late = "page"
when = "last(spo2, '5 min') < 90"
clear = "last(spo2, '5 min') >= 96"
[[rule]]
id = "both"
priority = "medium"
when = "last(spo2, '10 min') < 92 AND highest(heart_rate, '10 min') > 112"
[[rule]]
id = "fast"
priority = "medium"
needs = 3
when = "slope(heart_rate, '30 min') > 20 OR spread(heart_rate, '15 min') > 18"
clear = "slope(heart_rate, '30 min') <= 0 AND samples(heart_rate, '15 min') > 1"
[[rule]]
id = "trial"
priority = "high"
state = "shadow"
when = "lowest(spo2, '1 day') < baseline(spo2, '3 days') - 5 OR last(spo2, '5 min') < 82"
[[rule]]
id = "breath"
priority = "low"
when = "last(respiratory_rate, '30 min') >= 25 AND between_hours('22:00', '03:00')"
[[rule]]
id = "gain"
priority = "medium"
when = "last(weight, '1 day') - lowest(weight, '3 days') >= 2"
clear = "last(weight, '1 day') - lowest(weight, '3 days') < 1"
[[rule]]
id = "silent"
priority = "low"
metric = "spo2"
silent = "30 min"
[[rule]]
id = "belt-silent"
priority = "low"
metric = "respiratory_rate"
silent = "1 h"
"#;

/// An edit: another limit, another hold, one rule gone and one new.
pub const SECOND: &str = r#"
[[rule]]
id = "low"
priority = "high"
needs = 3
when = "mean(spo2, '5 min') < limit('spo2.low', 88)"
clear = "mean(spo2, '5 min') >= limit('spo2.low', 88) + 1"
[[rule]]
id = "critical"
priority = "medium"
condition = "oxygen"
when = "last(spo2, '5 min') < 85"
[[rule]]
id = "lower"
priority = "high"
condition = "oxygen"
hold = "2 min"
when = "lowest(spo2, '15 min') < 88"
clear = "last(spo2, '5 min') >= 92"
[[rule]]
id = "trial"
priority = "high"
when = "last(spo2, '5 min') < 82"
[[rule]]
id = "silent"
priority = "medium"
metric = "spo2"
silent = "20 min"
[[rule]]
id = "score"
priority = "medium"
when = "news2('4 h') >= 5"
clear = "news2('4 h') <= 3"
"#;
