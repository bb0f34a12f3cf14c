//! One module per command.

pub mod replay;
pub mod simulate;
