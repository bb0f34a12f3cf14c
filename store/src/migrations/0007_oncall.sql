-- Who is on call: every version that was ever in force, as it was written.
CREATE TABLE oncall (version BIGINT PRIMARY KEY, toml TEXT NOT NULL, author TEXT NOT NULL, activated_at BIGINT NOT NULL, forced TEXT NOT NULL);
