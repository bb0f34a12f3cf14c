-- What nobody has acknowledged yet is looked for again and again.
CREATE INDEX episodes_unacknowledged ON episodes (priority, heard_at) WHERE acknowledged_by IS NULL;
