//! A predicate's text to SQL over columns: everything that may stand in one is named here, and every call becomes a column.

use std::ops::Range;

use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast as sql;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, UnaryOperator, Value};
use schemas::{Metric, Micros};

use super::diagnostic::Refusal;
use super::file::Text;
use super::vocabulary::{Column, FUNCTIONS, MAX_WIDTH, NOT_YET, Source};
use super::width::parse_width;

struct Rewriter<'a> {
    file: &'a str,
    text: &'a Text,
    columns: &'a mut Vec<Column>,
    errors: Vec<Refusal>,
}

pub(super) fn rewrite(file: &str, text: &Text, columns: &mut Vec<Column>) -> Result<String, Vec<Refusal>> {
    let parsed = DFParserBuilder::new(text.get_ref().as_str()).build().and_then(|mut parser| parser.parse_into_expr());
    let expr = match parsed {
        Ok(expr) => expr.expr,
        Err(error) => {
            return Err(vec![Refusal(format!("not a predicate: {}", error.strip_backtrace()), text.span(), "for example mean(spo2, '5 min') < 90".to_owned())]);
        }
    };
    let mut rewriter = Rewriter { file, text, columns, errors: Vec::new() };
    let rewritten = rewriter.expr(expr);
    if rewriter.errors.is_empty() { Ok(rewritten.to_string()) } else { Err(rewriter.errors) }
}

impl Rewriter<'_> {
    /// Where a piece of the predicate stands in the file.
    fn place_of(&self, span: datafusion::sql::sqlparser::tokenizer::Span) -> Range<usize> {
        let whole = self.text.span();
        let raw = self.file.get(whole.clone()).unwrap_or("");
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
            Expr::Between { expr, negated, low, high } => Expr::Between { expr: self.boxed(expr), negated, low: self.boxed(low), high: self.boxed(high) },
            Expr::UnaryOp { op: op @ (UnaryOperator::Not | UnaryOperator::Minus | UnaryOperator::Plus), expr } => Expr::UnaryOp { op, expr: self.boxed(expr) },
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
                        None => "a predicate is made of last, mean, lowest, highest, spread, slope, samples and limit".to_owned(),
                    },
                    _ => "allowed are AND, OR, NOT, comparisons, + - * /, BETWEEN, IS NULL, numbers and parentheses".to_owned(),
                };
                self.refuse(&other, format!("`{other}` cannot stand in a predicate"), &help);
                other
            }
        }
    }

    fn call(&mut self, call: sql::Function) -> Expr {
        let name = call.name.to_string().to_lowercase();
        let written = call.to_string();
        let expr = Expr::Function(call.clone());
        let args: Vec<Expr> = match &call.args {
            FunctionArguments::List(list) => {
                list.args.iter().filter_map(|a| if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = a { Some(e.clone()) } else { None }).collect()
            }
            _ => Vec::new(),
        };
        if call.filter.is_some() || call.over.is_some() {
            self.refuse(&expr, format!("`{written}`: no FILTER and no OVER here"), "");
            return expr;
        }
        if name == "limit" {
            return self.limit(expr, &written, &args);
        }
        if NOT_YET.contains(&name.as_str()) {
            self.refuse(&expr, format!("`{name}` is not available yet"), "use a named limit meanwhile: limit('spo2.low', 90)");
            return expr;
        }
        if name == "age" {
            self.refuse(&expr, "there is no `age`".to_owned(), "for \"not heard\" write a rule with metric = \"spo2\" and silent = \"30 min\"");
            return expr;
        }
        let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let near = FUNCTIONS.iter().map(|(k, _)| *k).chain(["limit"]).min_by_key(|k| distance(k, &name)).filter(|k| distance(k, &name) <= 3);
            let near = near.or(match name.as_str() {
                "avg" | "average" => Some("mean"),
                "min" => Some("lowest"),
                "max" => Some("highest"),
                "count" => Some("samples"),
                _ => None,
            });
            let help = near.map_or("known are last, mean, lowest, highest, spread, slope, samples and limit".to_owned(), |k| format!("did you mean `{k}`?"));
            self.refuse(&expr, format!("`{name}` is not a function of rules"), &help);
            return expr;
        };
        let [metric, width] = args.as_slice() else {
            self.refuse(&expr, format!("`{name}` takes a metric and a width"), &format!("{name}(spo2, '5 min')"));
            return expr;
        };
        let parsed = metric.to_string().parse::<Metric>();
        let Ok(metric_name) = parsed else {
            let help = Metric::nearest(&metric.to_string()).map_or(Metric::ALL.map(Metric::name).join(", "), |m| format!("did you mean `{m}`?"));
            let message = format!("`{metric}` is not a metric");
            self.refuse(metric, message, &help);
            return expr;
        };
        let width_text = string(width);
        let parsed = width_text.as_deref().ok_or_else(|| "a width is quoted: '5 min'".to_owned()).and_then(parse_width);
        let span = match parsed {
            Ok(span) => span,
            Err(help) => {
                self.refuse(width, format!("`{width}` is not a width"), &help);
                return expr;
            }
        };
        if span > MAX_WIDTH {
            let help = if span >= Micros::days(1) { "widths in days are not available yet; up to '2 h'" } else { "widths go up to the horizon, '2 h'" };
            self.refuse(width, format!("the width {width} is too wide"), help);
            return expr;
        }
        let column = format!("{}_{name}_{}s", metric_name.name(), span.as_seconds());
        self.column(column, written, Source::Windowed { function: *function, metric: metric_name, width: span })
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
