-- Somebody is at it: nobody is told again before then.
ALTER TABLE troubles ADD COLUMN acknowledged_by TEXT;
ALTER TABLE troubles ADD COLUMN acknowledged_until BIGINT;
