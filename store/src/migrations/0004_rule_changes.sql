-- Who put which rules into force, and on what grounds. A change that waits for a second person has no version yet.
CREATE TABLE rule_changes (
    id TEXT PRIMARY KEY,
    toml TEXT NOT NULL,
    -- the version that it was made against
    base BIGINT NOT NULL,
    backtest TEXT,
    reason TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    proposed_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT,
    decided_at BIGINT,
    version BIGINT
);
CREATE INDEX rule_changes_proposed ON rule_changes (proposed_at, id);
