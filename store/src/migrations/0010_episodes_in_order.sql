-- The open alerts, newest first, without sorting all of them for each page.
CREATE INDEX episodes_state_heard ON episodes (state, heard_at, alert);
DROP INDEX episodes_state;
