//! Rules as clinicians write them, to predicates that DataFusion compiled once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast as sql;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, UnaryOperator, Value};
use schemas::{LatePolicy, Metric, Micros, Priority, RuleId};
use serde::Deserialize;

/// The widest look back of a rule: samples are kept for the horizon and this much more, whatever rules there are.
pub(crate) const MAX_WIDTH: Micros = Micros::hours(2);

/// The vocabulary over a metric's samples in `(t − width, t]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    Last,
    Mean,
    Lowest,
    Highest,
    Spread,
    /// Per hour, least squares.
    Slope,
    Samples,
}

const FUNCTIONS: [(&str, Function); 7] = [
    ("last", Function::Last),
    ("mean", Function::Mean),
    ("lowest", Function::Lowest),
    ("highest", Function::Highest),
    ("spread", Function::Spread),
    ("slope", Function::Slope),
    ("samples", Function::Samples),
];
const NOT_YET: [&str; 3] = ["baseline", "news2", "news2_missing"];

/// Where a column of a rule's row comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Windowed { function: Function, metric: Metric, width: Micros },
    Limit { name: String, default: f64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    /// As it was written.
    pub text: String,
    pub source: Source,
}

#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    pub when: Arc<dyn PhysicalExpr>,
    pub clear: Arc<dyn PhysicalExpr>,
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    #[allow(private_interfaces)]
    Predicate(Predicate),
    Silent {
        metric: Metric,
        after: Micros,
    },
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: RuleId,
    pub name: String,
    pub priority: Priority,
    pub needs: u32,
    pub hold: Micros,
    pub late: LatePolicy,
    pub source: String,
    pub kind: RuleKind,
    /// The rule as written, without spans: two rules of the same text are the same rule.
    pub(crate) text: String,
}

impl Rule {
    /// The metrics it looks at, each once, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = match &self.kind {
            RuleKind::Silent { metric, .. } => vec![*metric],
            RuleKind::Predicate(predicate) => {
                predicate.columns.iter().filter_map(|c| if let Source::Windowed { metric, .. } = c.source { Some(metric) } else { None }).collect()
            }
        };
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// The widest look back.
    pub fn width(&self) -> Micros {
        match &self.kind {
            RuleKind::Silent { .. } => Micros::ZERO,
            RuleKind::Predicate(predicate) => {
                predicate.columns.iter().map(|c| if let Source::Windowed { width, .. } = c.source { width } else { Micros::ZERO }).max().unwrap_or_default()
            }
        }
    }
}

/// Rules that compiled, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    pub rules: Vec<Rule>,
    pub warnings: Vec<Diagnostic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// What is wrong with a rule, where, and what to do. `Display` is the text with the underlined line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// Bytes of the TOML.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub help: String,
    excerpt: String,
    underline: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.severity == Severity::Error { "error" } else { "warning" };
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        writeln!(f, "{word}: {}", self.message)?;
        writeln!(f, "{pad}--> line {}, column {}", self.line, self.column)?;
        writeln!(f, "{pad} |\n{number} | {}", self.excerpt)?;
        write!(f, "{pad} | {}{}", " ".repeat(self.column.saturating_sub(1)), "^".repeat(self.underline.max(1)))?;
        if !self.help.is_empty() {
            write!(f, "\n{pad} = help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a rule file, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

type Text = toml::Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileToml {
    #[serde(default)]
    rule: Vec<toml::Spanned<RuleToml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    id: Text,
    name: Option<String>,
    priority: Text,
    when: Option<Text>,
    clear: Option<Text>,
    needs: Option<toml::Spanned<u32>>,
    hold: Option<Text>,
    late: Option<Text>,
    source: Option<String>,
    metric: Option<Text>,
    silent: Option<Text>,
}

/// A refusal inside one value: message, span within the file, help.
struct Refusal(String, Range<usize>, String);

/// Compiles a rule file.
///
/// # Errors
/// Every mistake, each with its place and its remedy.
pub fn compile(toml: &str) -> Result<RuleBook, Diagnostics> {
    let mut book = read(toml)?;
    // an installation's rules cannot leave it out
    book.rules.extend(read(CANARY)?.rules);
    book.rules.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(book)
}

/// Built in: it raises and clears with the canary, so that its transitions show that readings are evaluated.
const CANARY: &str = r#"
[[rule]]
id = "vigil-canary"
name = "Canary"
priority = "low"
when = "last(canary, '5 min') >= 1"
clear = "last(canary, '5 min') < 1"
source = "Vigil's own: no vital sign"
"#;

fn read(toml: &str) -> Result<RuleBook, Diagnostics> {
    let file: FileToml = match toml::from_str(toml) {
        Ok(file) => file,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            return Err(Diagnostics(vec![diagnostic(toml, Severity::Error, Refusal(error.message().to_owned(), span, String::new()))]));
        }
    };
    let mut book = RuleBook::default();
    let mut errors = Vec::new();
    for entry in file.rule {
        let span = entry.span();
        match rule(toml, entry.into_inner(), span) {
            Ok((rule, warnings, id_span)) => {
                if rule.id.as_str() == schemas::CANARY_RULE && toml != CANARY {
                    errors.push(Refusal(format!("`{}` is Vigil's own rule", rule.id), id_span, "choose another id".to_owned()));
                } else if book.rules.iter().any(|other| other.id == rule.id) {
                    errors.push(Refusal(
                        format!("two rules have the id `{}`", rule.id),
                        id_span,
                        "an id is the rule's identity over versions: choose another".to_owned(),
                    ));
                }
                book.warnings.extend(warnings.into_iter().map(|w| diagnostic(toml, Severity::Warning, w)));
                book.rules.push(rule);
            }
            Err(refusals) => errors.extend(refusals),
        }
    }
    book.rules.sort_by(|a, b| a.id.cmp(&b.id));
    if errors.is_empty() { Ok(book) } else { Err(Diagnostics(errors.into_iter().map(|e| diagnostic(toml, Severity::Error, e)).collect())) }
}

fn diagnostic(toml: &str, severity: Severity, Refusal(message, span, help): Refusal) -> Diagnostic {
    let start = span.start.min(toml.len());
    let end = span.end.clamp(start, toml.len());
    let before = toml.get(..start).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let excerpt = toml.get(line_start..).unwrap_or("").lines().next().unwrap_or("").to_owned();
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    let underline = toml.get(start..end).unwrap_or("").lines().next().unwrap_or("").chars().count();
    Diagnostic { severity, message, span: start..end, line: before.matches('\n').count() + 1, column, help, excerpt, underline }
}

fn rule(file: &str, t: RuleToml, span: Range<usize>) -> Result<(Rule, Vec<Refusal>, Range<usize>), Vec<Refusal>> {
    let mut errors = Vec::new();
    let id_span = t.id.span();
    let id = RuleId::parse(t.id.get_ref()).map_err(|e| errors.push(Refusal(e.to_string(), id_span.clone(), "for example `spo2-low`".to_owned()))).ok();
    let priority = match t.priority.get_ref().as_str() {
        "high" => Priority::High,
        "medium" => Priority::Medium,
        "low" => Priority::Low,
        other => {
            errors.push(Refusal(format!("`{other}` is not a priority"), t.priority.span(), "high, medium or low: the words of IEC 60601-1-8".to_owned()));
            Priority::Low
        }
    };
    let late = match t.late.as_ref().map(|l| l.get_ref().as_str()) {
        None | Some("inbox") => LatePolicy::Inbox,
        Some("page") => LatePolicy::Page,
        Some(other) => {
            errors.push(Refusal(format!("`{other}` is not a late policy"), t.late.as_ref().map_or(0..0, Text::span), "page or inbox".to_owned()));
            LatePolicy::Inbox
        }
    };
    let mut span_of = |value: &Option<Text>| -> Micros {
        let Some(value) = value else { return Micros::ZERO };
        parse_width(value.get_ref()).unwrap_or_else(|help| {
            errors.push(Refusal(format!("`{}` is not a span of time", value.get_ref()), value.span(), help));
            Micros::ZERO
        })
    };
    let hold = span_of(&t.hold);
    let silent = span_of(&t.silent);
    let needs = t.needs.as_ref().map_or(1, |n| *n.get_ref());
    if needs == 0 {
        errors.push(Refusal(
            "`needs` is at least 1".to_owned(),
            t.needs.as_ref().map_or(0..0, toml::Spanned::span),
            "without a sample a function is NULL".to_owned(),
        ));
    }
    let mut warnings = Vec::new();
    let kind = match (&t.when, &t.metric, &t.silent) {
        (Some(when), None, None) => match predicate(file, when, t.clear.as_ref(), &mut warnings) {
            Ok(predicate) => Some(RuleKind::Predicate(predicate)),
            Err(refusals) => {
                errors.extend(refusals);
                None
            }
        },
        (None, Some(metric), Some(_)) => match metric.get_ref().parse::<Metric>() {
            Ok(metric) => Some(RuleKind::Silent { metric, after: silent }),
            Err(e) => {
                errors.push(Refusal(e.to_string(), metric.span(), String::new()));
                None
            }
        },
        _ => {
            errors.push(Refusal(
                "a rule has either `when`, or both `metric` and `silent`".to_owned(),
                id_span.clone(),
                "when = \"mean(spo2, '5 min') < 90\", or metric = \"spo2\" with silent = \"30 min\"".to_owned(),
            ));
            None
        }
    };
    match (id, kind) {
        (Some(id), Some(kind)) if errors.is_empty() => {
            let text = format!(
                "{:?}",
                (
                    id.as_str(),
                    &t.metric.as_ref().map(Text::get_ref),
                    &t.name,
                    t.priority.get_ref(),
                    t.when.as_ref().map(Text::get_ref),
                    t.clear.as_ref().map(Text::get_ref),
                    needs,
                    hold.0,
                    t.late.as_ref().map(Text::get_ref),
                    silent.0
                )
            );
            let name = t.name.unwrap_or_else(|| id.to_string());
            Ok((Rule { id, name, priority, needs, hold, late, source: t.source.unwrap_or_default(), kind, text }, warnings, id_span))
        }
        _ => {
            if errors.is_empty() {
                errors.push(Refusal("this rule does not compile".to_owned(), span, String::new()));
            }
            Err(errors)
        }
    }
}

/// `5 min`, `30 s`, `2 h`, `7 days`.
fn parse_width(text: &str) -> Result<Micros, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let help = || "a whole number and s, min, h or days: '5 min'".to_owned();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| help())?;
    let width = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => Micros::seconds(number),
        "min" | "minute" | "minutes" => Micros::minutes(number),
        "h" | "hour" | "hours" => Micros::hours(number),
        "d" | "day" | "days" => Micros::days(number),
        _ => return Err(help()),
    };
    if number == 0 { Err("at least one second".to_owned()) } else { Ok(width) }
}

struct Rewriter<'a> {
    file: &'a str,
    text: &'a Text,
    columns: &'a mut Vec<Column>,
    errors: Vec<Refusal>,
}

fn predicate(file: &str, when: &Text, clear: Option<&Text>, warnings: &mut Vec<Refusal>) -> Result<Predicate, Vec<Refusal>> {
    let mut columns = Vec::new();
    let when_sql = rewrite(file, when, &mut columns)?;
    let clear_sql = match clear {
        Some(clear) => rewrite(file, clear, &mut columns)?,
        None => {
            if columns.iter().any(|c| matches!(c.source, Source::Windowed { function: Function::Samples, .. })) {
                let help = "add clear = \"…\": a count is never NULL, so the rule cannot tell too little evidence from the end of it".to_owned();
                return Err(vec![Refusal("a rule that uses `samples` must have `clear`".to_owned(), when.span(), help)]);
            }
            format!("NOT ({when_sql})")
        }
    };
    if !columns.iter().any(|c| matches!(c.source, Source::Windowed { .. })) {
        return Err(vec![Refusal("the predicate looks at no metric".to_owned(), when.span(), "for example mean(spo2, '5 min') < 90".to_owned())]);
    }
    let schema = Arc::new(Schema::new(columns.iter().map(|c| Field::new(&c.name, DataType::Float64, true)).collect::<Vec<_>>()));
    let plan = |sql: &str, text: &Text| {
        physical(sql, &schema).map_err(|e| {
            vec![Refusal(format!("not a condition: {}", e.strip_backtrace()), text.span(), "it is to be true or false: compare two numbers".to_owned())]
        })
    };
    let predicate = Predicate { when: plan(&when_sql, when)?, clear: plan(&clear_sql, clear.unwrap_or(when))?, schema: schema.clone(), columns };
    if let Some(clear) = clear
        && crate::series::both_can_hold(&predicate)
    {
        warnings.push(Refusal(
            "`when` and `clear` can both be true".to_owned(),
            clear.span(),
            "while an alert is open `clear` is looked at only if `when` is not true; leave a gap between them".to_owned(),
        ));
    }
    Ok(predicate)
}

fn physical(sql: &str, schema: &SchemaRef) -> datafusion::common::Result<Arc<dyn PhysicalExpr>> {
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let state = SessionStateBuilder::new().build();
    let logical = state.create_logical_expr(sql, &df_schema)?;
    let context = datafusion::optimizer::simplify_expressions::SimplifyContext::builder().with_schema(Arc::new(df_schema.clone())).build();
    let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(context);
    let coerced = simplifier.coerce(logical, &df_schema)?;
    let simplified = simplifier.simplify(coerced)?;
    let expr = state.create_physical_expr(simplified, &df_schema)?;
    if expr.data_type(schema)? == DataType::Boolean { Ok(expr) } else { datafusion::common::plan_err!("it is a number") }
}

fn rewrite(file: &str, text: &Text, columns: &mut Vec<Column>) -> Result<String, Vec<Refusal>> {
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
