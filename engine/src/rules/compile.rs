//! A predicate to what DataFusion compiled once.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_expr::PhysicalExpr;

use super::diagnostic::Refusal;
use super::file::Text;
use super::rewrite::{Context, plain, rewrite};
use super::vocabulary::{Column, Function, Score, Source};

#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    pub when: Arc<dyn PhysicalExpr>,
    pub clear: Arc<dyn PhysicalExpr>,
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
    /// As they were written, but for spaces and capitals: what people compare.
    pub when_text: String,
    pub clear_text: Option<String>,
    /// The file's zone, where the rule speaks of days or of the wall clock: it is part of what the rule says.
    pub zone: Option<String>,
}

pub(super) fn predicate(context: Context<'_>, when: &Text, clear: Option<&Text>, warnings: &mut Vec<Refusal>) -> Result<Predicate, Vec<Refusal>> {
    let mut columns = Vec::new();
    let (when_sql, when_text) = rewrite(context, when, &mut columns, warnings)?;
    let mut clear_text = None;
    let clear_sql = match clear {
        Some(clear) => {
            let (sql, text) = rewrite(context, clear, &mut columns, warnings)?;
            clear_text = Some(text);
            sql
        }
        None => {
            let count = columns.iter().find_map(|c| match c.source {
                Source::Windowed { function: Function::Samples, .. } | Source::Days { function: Function::Samples, .. } => Some("samples"),
                Source::News2 { score: Score::Missing, .. } => Some("news2_missing"),
                _ => None,
            });
            if let Some(count) = count {
                let help = "add clear = \"…\": a count is never NULL, so the rule cannot tell too little evidence from the end of it".to_owned();
                return Err(vec![Refusal(format!("a rule that uses `{count}` must have `clear`"), when.span(), help)]);
            }
            format!("NOT ({when_sql})")
        }
    };
    if columns.iter().all(|c| c.source.metric().is_none()) {
        return Err(vec![Refusal("the predicate looks at no metric".to_owned(), when.span(), "for example mean(spo2, '5 min') < 90".to_owned())]);
    }
    let schema = Arc::new(Schema::new(columns.iter().map(|c| Field::new(&c.name, DataType::Float64, true)).collect::<Vec<_>>()));
    let plan = |sql: &str, text: &Text| {
        physical(sql, &schema).map_err(|e| {
            vec![Refusal(format!("not a condition: {}", plain(&e.strip_backtrace())), text.span(), "it is to be true or false: compare two numbers".to_owned())]
        })
    };
    let speaks_of_days = columns.iter().any(|c| matches!(c.source, Source::Days { .. } | Source::Clock { .. }));
    let zone = speaks_of_days.then(|| context.zone.to_string());
    let predicate = Predicate {
        when: plan(&when_sql, when)?,
        clear: plan(&clear_sql, clear.unwrap_or(when))?,
        schema: schema.clone(),
        columns,
        when_text,
        clear_text,
        zone,
    };
    let tried = crate::evaluate::tried(&predicate);
    if !tried.is_empty() && tried.iter().all(|(when, _)| *when != Some(true)) {
        let help = "no numbers that were tried made it true: the rule would never raise".to_owned();
        warnings.push(Refusal("`when` can never be true".to_owned(), when.span(), help));
    }
    if let Some(clear) = clear {
        let told = |what: &str, help: &str| Refusal(what.to_owned(), clear.span(), help.to_owned());
        if tried.contains(&(Some(true), Some(true))) {
            let help = "while an alert is open `clear` is looked at only if `when` is not true; leave a gap between them";
            warnings.push(told("`when` and `clear` can both be true", help));
        }
        if !tried.is_empty() && tried.iter().all(|(_, clear)| *clear != Some(true)) {
            warnings.push(told("`clear` can never be true", "no numbers that were tried made it true: an alert would stay open for ever"));
        }
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
