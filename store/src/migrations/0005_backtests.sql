-- What was tried on history, by whom, and what came of it. The id is the result's own digest.
CREATE TABLE backtests (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    person TEXT NOT NULL,
    rules_hash TEXT NOT NULL,
    data_hash TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    from_at BIGINT,
    to_at BIGINT,
    summary TEXT NOT NULL
);
CREATE INDEX backtests_created ON backtests (created_at, id);
