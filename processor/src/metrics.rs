//! The names under which the processor and the archive count.

use metrics::{Unit, describe_counter, describe_gauge};

/// Labelled `partition`, as everything of the processor.
pub const INPUTS: &str = "vigil_processor_inputs_total";
pub const UNREADABLE: &str = "vigil_processor_unreadable_inputs_total";
/// Also labelled `topic`.
pub const OUTPUTS: &str = "vigil_processor_outputs_total";
pub const TICKS: &str = "vigil_processor_ticks_total";
pub const SNAPSHOTS: &str = "vigil_processor_snapshots_total";
pub const SNAPSHOTS_FAILED: &str = "vigil_processor_snapshots_failed_total";
pub const GAPS: &str = "vigil_processor_gaps_total";
pub const REBUILT: &str = "vigil_processor_rebuilt_inputs_total";
/// Labelled `topic`, as everything of the archive.
pub const ARCHIVE_FILES: &str = "vigil_archive_files_total";
pub const ARCHIVE_ROWS: &str = "vigil_archive_rows_total";
pub const ARCHIVE_FAILED: &str = "vigil_archive_failed_total";
pub const ARCHIVE_LOST: &str = "vigil_archive_lost_total";
/// Also labelled `partition`.
pub const ARCHIVE_LAG: &str = "vigil_archive_lag_seconds";

/// Says what each name means; call it once, when a recorder is installed.
pub fn describe() {
    describe_counter!(INPUTS, "inputs applied by the engine");
    describe_counter!(UNREADABLE, "records of vigil.inputs that this version cannot read; they decide nothing");
    describe_counter!(OUTPUTS, "windows and transitions appended, repetitions after a restart included");
    describe_counter!(TICKS, "ticks appended because a timer was due and the partition quiet");
    describe_counter!(SNAPSHOTS, "snapshots published");
    describe_counter!(SNAPSHOTS_FAILED, "snapshots that could not be written; evaluation goes on");
    describe_counter!(GAPS, "times the journal no longer had what the newest snapshot needs");
    describe_counter!(REBUILT, "inputs read from the lake because the journal no longer had them");
    describe_counter!(ARCHIVE_FILES, "files of the lake's raw layer written");
    describe_counter!(ARCHIVE_ROWS, "records in them");
    describe_counter!(ARCHIVE_FAILED, "attempts to write a file that failed; they are repeated");
    describe_counter!(ARCHIVE_LOST, "records that were gone from the journal before they were archived");
    describe_gauge!(ARCHIVE_LAG, Unit::Seconds, "age of the oldest record that is read and not yet in the lake");
}
