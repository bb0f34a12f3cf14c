//! A predicate's text to SQL over columns: everything that may stand in one is named here, and every call becomes a column.

use std::ops::Range;

use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast as sql;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Spanned, UnaryOperator, Value};
use schemas::Metric;

use super::diagnostic::Refusal;
use super::file::Text;
use super::plausible;
use super::vocabulary::{Column, FUNCTIONS, Function, KNOWN, NOT_YET, Source};
use super::width::{Width, parse_time_of_day, parse_width};
use crate::zone::Zone;

/// What a predicate stands in: its file, and the zone of the file's days.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub file: &'a str,
    pub zone: &'a Zone,
}

struct Rewriter<'a> {
    context: Context<'a>,
    text: &'a Text,
    columns: &'a mut Vec<Column>,
    errors: Vec<Refusal>,
    warnings: &'a mut Vec<Refusal>,
}

pub(super) fn rewrite(context: Context<'_>, text: &Text, columns: &mut Vec<Column>, warnings: &mut Vec<Refusal>) -> Result<(String, String), Vec<Refusal>> {
    let parsed = DFParserBuilder::new(text.get_ref().as_str()).build().and_then(|mut parser| parser.parse_into_expr());
    let expr = match parsed {
        Ok(expr) => expr.expr,
        Err(error) => {
            return Err(vec![Refusal(
                format!("not a predicate: {}", plain(&error.strip_backtrace())),
                text.span(),
                "for example mean(spo2, '5 min') < 90".to_owned(),
            )]);
        }
    };
    let mut rewriter = Rewriter { context, text, columns, errors: Vec::new(), warnings };
    let said = expr.to_string();
    let rewritten = rewriter.expr(expr);
    if rewriter.errors.is_empty() { Ok((rewritten.to_string(), said)) } else { Err(rewriter.errors) }
}

impl Rewriter<'_> {
    /// Where a piece of the predicate stands in the file.
    fn place_of(&self, span: datafusion::sql::sqlparser::tokenizer::Span) -> Range<usize> {
        let whole = self.text.span();
        let raw = self.context.file.get(whole.clone()).unwrap_or("");
        let quotes = raw.len() - raw.trim_start_matches(['"', '\'']).len();
        let quotes = if quotes >= 3 { 3 } else { 1 };
        let value = self.text.get_ref();
        // only a value that stands in the file as it is can be underlined in part
        if span.start.line != 1 || !raw.get(quotes..).is_some_and(|rest| rest.starts_with(value.as_str())) {
            return whole;
        }
        let byte = |column: u64| value.char_indices().nth(column.saturating_sub(1) as usize).map_or(value.len(), |(i, _)| i);
        let start = whole.start + quotes;
        start + byte(span.start.column)..start + byte(span.end.column).max(byte(span.start.column) + 1)
    }

    fn refuse(&mut self, expr: &Expr, message: String, help: &str) {
        let span = self.place_of(expr.span());
        self.errors.push(Refusal(message, span, help.to_owned()));
    }

    fn boxed(&mut self, expr: Box<Expr>) -> Box<Expr> {
        Box::new(self.expr(*expr))
    }

    fn expr(&mut self, expr: Expr) -> Expr {
        match expr {
            Expr::Nested(inner) => Expr::Nested(self.boxed(inner)),
            Expr::IsNull(inner) => Expr::IsNull(self.boxed(inner)),
            Expr::IsNotNull(inner) => Expr::IsNotNull(self.boxed(inner)),
            Expr::Between { ref expr, ref low, ref high, .. } if self.cannot_compare(expr, low) || self.cannot_compare(expr, high) => *expr.clone(),
            Expr::Between { expr, negated, low, high } => Expr::Between { expr: self.boxed(expr), negated, low: self.boxed(low), high: self.boxed(high) },
            Expr::UnaryOp { op: op @ (UnaryOperator::Not | UnaryOperator::Minus | UnaryOperator::Plus), expr } => Expr::UnaryOp { op, expr: self.boxed(expr) },
            Expr::BinaryOp { ref left, ref op, ref right } if self.is_ambiguous(left, op, right) => expr,
            Expr::BinaryOp { ref left, ref op, ref right } if compares(op) && self.cannot_compare(left, right) => expr,
            Expr::BinaryOp { left, op, right } if allowed(&op) => Expr::BinaryOp { left: self.boxed(left), op, right: self.boxed(right) },
            // Float64, so that 1 / 2 is a half
            Expr::Value(ref v) if matches!(v.value, Value::Number(..)) => {
                let Value::Number(text, _) = &v.value else { return expr };
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => Expr::Value(Value::Number(format!("{number:e}"), false).into()),
                    _ => {
                        self.refuse(&expr, format!("`{text}` is not a number"), "");
                        expr
                    }
                }
            }
            Expr::Function(call) => self.call(call),
            other => {
                let help = match &other {
                    Expr::Identifier(name) if name.value.parse::<Metric>().is_ok() => {
                        format!("say which value and how far back: last({}, '15 min')", name.value)
                    }
                    Expr::Identifier(name) => match Metric::nearest(&name.value) {
                        Some(metric) => format!("did you mean last({metric}, '15 min')?"),
                        None => format!("a predicate is made of {KNOWN}"),
                    },
                    _ => "allowed are AND, OR, NOT, comparisons, + - * /, BETWEEN, IS NULL, numbers and parentheses".to_owned(),
                };
                self.refuse(&other, format!("`{other}` cannot stand in a predicate"), &help);
                other
            }
        }
    }

    /// `a AND b OR c` reads differently to different people.
    fn is_ambiguous(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> bool {
        let and = |expr: &Expr| matches!(expr, Expr::BinaryOp { op: BinaryOperator::And, .. });
        if *op != BinaryOperator::Or || !(and(left) || and(right)) {
            return false;
        }
        let (first, last) = (self.place_of(left.span()), self.place_of(right.span()));
        let group = |expr: &Expr| if and(expr) { format!("({expr})") } else { expr.to_string() };
        let mut help = format!("write {} OR {}", group(left), group(right));
        if let (Expr::BinaryOp { left: a, right: b, .. }, false) = (left, and(right)) {
            help.push_str(&format!(", or {a} AND ({b} OR {right})"));
        } else if let (Expr::BinaryOp { left: b, right: c, .. }, false) = (right, and(left)) {
            help.push_str(&format!(", or ({left} OR {b}) AND {c}"));
        }
        self.errors.push(Refusal("AND and OR without parentheses".to_owned(), first.start..last.end.max(first.end), help));
        true
    }

    /// A number that no value of the metric beside it can have.
    fn cannot_compare(&mut self, left: &Expr, right: &Expr) -> bool {
        if let Some((place, message, help)) = plausible::compared(left, right) {
            self.refuse(place, message, &help);
            return true;
        }
        if let Some((place, message, help)) = plausible::misnamed(left, right) {
            let span = self.place_of(place.span());
            self.warnings.push(Refusal(message, span, help));
        }
        false
    }

    /// A call becomes a column: this is the place for a new word.
    fn call(&mut self, call: sql::Function) -> Expr {
        let name = call.name.to_string().to_lowercase();
        let written = call.to_string();
        let expr = Expr::Function(call.clone());
        let args: Vec<Expr> = plausible::arguments(&call.args).into_iter().cloned().collect();
        if call.filter.is_some() || call.over.is_some() {
            self.refuse(&expr, format!("`{written}`: no FILTER and no OVER here"), "");
            return expr;
        }
        match name.as_str() {
            "limit" => self.limit(expr, &written, &args),
            "between_hours" => self.between_hours(expr, &written, &args),
            _ => match FUNCTIONS.iter().find(|(known, _)| *known == name) {
                Some((name, function)) => self.looks_back(expr, written, name, *function, &args),
                None => self.unknown(expr, &name),
            },
        }
    }

    fn unknown(&mut self, expr: Expr, name: &str) -> Expr {
        if NOT_YET.contains(&name) {
            self.refuse(&expr, format!("`{name}` is not available yet"), "use a named limit meanwhile: limit('spo2.low', 90)");
            return expr;
        }
        if name == "age" {
            self.refuse(&expr, "there is no `age`".to_owned(), "for \"not heard\" write a rule with metric = \"spo2\" and silent = \"30 min\"");
            return expr;
        }
        let near = match name {
            "avg" | "average" => Some("mean"),
            "min" => Some("lowest"),
            "max" => Some("highest"),
            "count" => Some("samples"),
            "hour" | "time" => Some("between_hours"),
            _ => {
                let known = FUNCTIONS.iter().map(|(k, _)| *k).chain(["limit", "between_hours"]);
                known.min_by_key(|k| distance(k, name)).filter(|k| distance(k, name) <= 2)
            }
        };
        let help = near.map_or_else(|| format!("known are {KNOWN}"), |k| format!("did you mean `{k}`?"));
        self.refuse(&expr, format!("`{name}` is not a function of rules"), &help);
        expr
    }

    /// `last(spo2, '5 min')` and its like.
    fn looks_back(&mut self, expr: Expr, written: String, name: &str, function: Function, args: &[Expr]) -> Expr {
        let usage = if function == Function::Baseline { "baseline(weight, '14 days')".to_owned() } else { format!("{name}(spo2, '5 min')") };
        let [metric, width] = args else {
            self.refuse(&expr, format!("`{name}` takes a metric and a width"), &usage);
            return expr;
        };
        let word = metric.to_string();
        let Ok(metric) = word.parse::<Metric>() else {
            let help = Metric::nearest(&word).map_or_else(|| Metric::ALL.map(Metric::name).join(", "), |m| format!("did you mean `{m}`?"));
            self.refuse(metric, format!("`{word}` is not a metric"), &help);
            return expr;
        };
        let text = string(width);
        let width_of = |text: Option<&str>| {
            let text = text.ok_or_else(|| (format!("`{width}` is not a width"), "a width is quoted: '5 min'".to_owned()))?;
            match parse_width(text)? {
                Width::Days(1 | 2) | Width::Span(_) if function == Function::Baseline => {
                    Err((format!("a baseline over '{text}'"), "it looks at whole days before today, at least three: '14 days'".to_owned()))
                }
                width => Ok(width),
            }
        };
        match width_of(text.as_deref()) {
            Ok(Width::Span(width)) => {
                let column = format!("{}_{name}_{}s", metric.name(), width.as_seconds());
                self.column(column, written, Source::Windowed { function, metric, width })
            }
            Ok(Width::Days(days)) => {
                let zone = self.context.zone.clone();
                self.column(format!("{}_{name}_{days}d", metric.name()), written, Source::Days { function, metric, days, zone })
            }
            Err((message, help)) => {
                self.refuse(width, message, &help);
                expr
            }
        }
    }

    /// `between_hours('22:00', '06:00')`: true or false by the wall clock of the file's zone, or of the one that is named.
    fn between_hours(&mut self, expr: Expr, written: &str, args: &[Expr]) -> Expr {
        let usage = "between_hours('22:00', '06:00'), and another zone than the file's as a third: 'Europe/London'";
        let texts: Option<Vec<String>> = args.iter().map(string).collect();
        let (from, to, zone) = match texts.as_deref() {
            Some([from, to]) => (from, to, None),
            Some([from, to, zone]) => (from, to, Some(zone)),
            _ => {
                self.refuse(&expr, format!("`{written}` is not a time of day"), usage);
                return expr;
            }
        };
        let (Some(start), Some(end)) = (parse_time_of_day(from), parse_time_of_day(to)) else {
            self.refuse(&expr, format!("`{written}`: a time of day has two digits each"), usage);
            return expr;
        };
        if start == end {
            self.refuse(&expr, format!("`{written}` is never true"), "for the whole day leave it out");
            return expr;
        }
        let zone = match zone {
            None => self.context.zone.clone(),
            Some(name) => match Zone::named(name) {
                Some(zone) => zone,
                None => {
                    self.refuse(&args[2], format!("`{name}` is not a time zone"), "a name of the IANA database: 'Europe/London'");
                    return expr;
                }
            },
        };
        let word: String = zone.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        let column = self.column(format!("clock_{start}_{end}_{word}"), written.to_owned(), Source::Clock { from: start, to: end, zone });
        let one = Expr::Value(Value::Number("1e0".to_owned(), false).into());
        Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(column), op: BinaryOperator::Eq, right: Box::new(one) }))
    }

    fn limit(&mut self, expr: Expr, written: &str, args: &[Expr]) -> Expr {
        let usage = "limit('spo2.low', 90): the name and the default";
        let [name, default] = args else {
            self.refuse(&expr, "`limit` takes a name and a default".to_owned(), usage);
            return expr;
        };
        let (Some(name), Some(default)) = (string(name), finite(default)) else {
            self.refuse(&expr, format!("`{written}` is not a limit"), usage);
            return expr;
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_')) {
            self.refuse(&expr, format!("`{name}` is not the name of a limit"), "small letters, digits, `.` and `_`: 'spo2.low'");
            return expr;
        }
        let column = format!("limit_{}", name.replace('.', "_"));
        let clash = self.columns.iter().any(|c| c.name == column && c.source != Source::Limit { name: name.clone(), default });
        if clash {
            self.refuse(&expr, format!("the limit `{name}` has two defaults, or two limits read alike"), "one name, one default in a rule");
            return expr;
        }
        self.column(column, written.to_owned(), Source::Limit { name, default })
    }

    fn column(&mut self, name: String, text: String, source: Source) -> Expr {
        if !self.columns.iter().any(|c| c.name == name) {
            self.columns.push(Column { name: name.clone(), text, source });
        }
        Expr::Identifier(Ident::new(name))
    }
}

/// What DataFusion says, without the names of its own types.
pub(super) fn plain(error: &str) -> &str {
    let text = error.trim_start_matches("Error during planning: ").trim_start_matches("SQL error: ParserError(\"");
    text.trim_end_matches("\")")
}

/// A number that is written out: `nan` and `inf` would be one to a parser, and a limit to nobody.
fn finite(expr: &Expr) -> Option<f64> {
    expr.to_string().parse().ok().filter(|number: &f64| number.is_finite())
}

fn string(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn allowed(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(op, B::And | B::Or | B::Lt | B::LtEq | B::Gt | B::GtEq | B::Eq | B::NotEq | B::Plus | B::Minus | B::Multiply | B::Divide)
}

const fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(op, B::Lt | B::LtEq | B::Gt | B::GtEq | B::Eq | B::NotEq)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
