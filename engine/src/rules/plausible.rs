//! Numbers beside a metric: one that nobody can measure in the metric's unit was meant in another.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value};
use schemas::Metric;

use super::vocabulary::FUNCTIONS;

/// The metric whose own value an expression is: `last(spo2, '5 min')`.
fn metric_of(expr: &Expr) -> Option<Metric> {
    match expr {
        Expr::Nested(inner) => metric_of(inner),
        Expr::Function(call) => {
            let name = call.name.to_string().to_lowercase();
            let (_, function) = FUNCTIONS.iter().find(|(known, _)| *known == name)?;
            let metric = arguments(&call.args).first()?.to_string().parse().ok()?;
            function.is_a_value().then_some(metric)
        }
        _ => None,
    }
}

pub(super) fn arguments(args: &FunctionArguments) -> Vec<&Expr> {
    match args {
        FunctionArguments::List(list) => {
            list.args.iter().filter_map(|a| if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = a { Some(e) } else { None }).collect()
        }
        _ => Vec::new(),
    }
}

/// The number that an expression is whatever was measured, a limit as its default.
fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Nested(inner) => number(inner),
        Expr::Value(v) => {
            if let Value::Number(text, _) = &v.value {
                text.parse().ok()
            } else {
                None
            }
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => number(expr).map(|n| -n),
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (number(left)?, number(right)?);
            match op {
                BinaryOperator::Plus => Some(left + right),
                BinaryOperator::Minus => Some(left - right),
                BinaryOperator::Multiply => Some(left * right),
                BinaryOperator::Divide => Some(left / right),
                _ => None,
            }
        }
        Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("limit") => number(arguments(&call.args).get(1)?),
        _ => None,
    }
}

/// The place of the number to underline: the default within a limit.
fn place(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => place(inner),
        Expr::Function(call) => arguments(&call.args).get(1).copied().unwrap_or(expr),
        _ => expr,
    }
}

/// What is wrong with two sides of a comparison: where, what, the remedy.
pub(super) fn compared<'a>(a: &'a Expr, b: &'a Expr) -> Option<(&'a Expr, String, String)> {
    let (metric, side) = metric_of(a).map(|m| (m, b)).or_else(|| metric_of(b).map(|m| (m, a)))?;
    let value = number(side)?;
    let wrong = metric.convert(value, None).err()?;
    let (low, high) = metric.plausible();
    let unit = metric.display_unit();
    let message = format!("{} of {value} {unit} cannot be measured", metric.label());
    let meant =
        metric.units().iter().filter(|other| other.name != metric.units()[0].name && other.name.len() > 1 && !other.name.starts_with('[')).find_map(|other| {
            let converted = metric.convert(value, Some(other.name)).ok()?;
            Some(format!("{value} {} is {converted:.*} {unit}; rules speak of {unit}", other.name, usize::from(metric.decimals())))
        });
    let fraction = matches!(wrong, schemas::UnitError::Mismatch { metric: Metric::Spo2, .. }).then(|| format!("did you mean {}?", value * 100.0));
    let help = meant.or(fraction).unwrap_or_else(|| format!("{} is in {unit}, between {low} and {high}", metric.name()));
    Some((place(side), message, help))
}

/// A limit that is named after another metric than the one it is compared with.
pub(super) fn misnamed<'a>(a: &'a Expr, b: &'a Expr) -> Option<(&'a Expr, String, String)> {
    let (metric, side) = metric_of(a).map(|m| (m, b)).or_else(|| metric_of(b).map(|m| (m, a)))?;
    let Expr::Function(call) = side else { return None };
    let name = arguments(&call.args).first()?.to_string();
    let of: Metric = name.trim_matches('\'').split('.').next()?.parse().ok()?;
    let help = format!("a care team that sets {name} would not expect to change a rule on {metric}");
    (of != metric && call.name.to_string().eq_ignore_ascii_case("limit")).then(|| (side, format!("the limit {name} is compared with {metric}"), help))
}
