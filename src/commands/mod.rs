//! One module per command.

pub mod replay;
