//! The built binary, driven from outside as its users do: no part of it is called here, only its commands, its ports and its files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod certify;
mod devices;
mod driven;
mod evidence;
mod history;
mod jobs;
mod kill;
mod lake;
mod mimic;
mod observe;
mod oncall;
mod paging;
mod refusals;
mod rules;
mod run;
mod silence;
mod smoke;
mod test_mode;
mod vendor;
