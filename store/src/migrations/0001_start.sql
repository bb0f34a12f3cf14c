-- One set of SQL for SQLite and PostgreSQL. Times are microseconds since 1970; flags are 0 or 1.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta (name, value) VALUES ('registry_version', '0');

CREATE TABLE wards (id TEXT PRIMARY KEY, name TEXT NOT NULL, timezone TEXT NOT NULL);

CREATE TABLE patients (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    born TEXT NOT NULL,
    sex TEXT NOT NULL,
    identifier TEXT NOT NULL,
    ward TEXT NOT NULL REFERENCES wards (id),
    created_at BIGINT NOT NULL
);
CREATE INDEX patients_ward ON patients (ward);

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    test BIGINT NOT NULL,
    hub TEXT REFERENCES devices (id),
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    min_time BIGINT NOT NULL
);

CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX credentials_device ON credentials (device);

CREATE TABLE assignments (
    device TEXT NOT NULL REFERENCES devices (id),
    patient TEXT NOT NULL REFERENCES patients (id),
    from_at BIGINT NOT NULL,
    until_at BIGINT,
    PRIMARY KEY (device, from_at)
);
CREATE INDEX assignments_patient ON assignments (patient);

CREATE TABLE settings (
    patient TEXT NOT NULL REFERENCES patients (id),
    version BIGINT NOT NULL,
    monitored BIGINT NOT NULL,
    input {BYTES} NOT NULL,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (patient, version)
);

CREATE TABLE rules (
    version BIGINT PRIMARY KEY,
    toml TEXT NOT NULL,
    author TEXT NOT NULL,
    activated_at BIGINT NOT NULL
);

CREATE TABLE outbox (
    id BIGINT PRIMARY KEY,
    patient TEXT,
    input {BYTES} NOT NULL,
    created_at BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT
);

CREATE TABLE positions (
    reader TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition_number BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (reader, topic, partition_number)
);

CREATE TABLE episodes (
    alert TEXT PRIMARY KEY,
    patient TEXT NOT NULL,
    rule TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    priority TEXT NOT NULL,
    state TEXT NOT NULL,
    raised_at BIGINT NOT NULL,
    heard_at BIGINT NOT NULL,
    since BIGINT NOT NULL,
    cleared_at BIGINT,
    summary TEXT NOT NULL,
    evidence TEXT NOT NULL,
    late BIGINT NOT NULL,
    brief BIGINT NOT NULL,
    technical BIGINT NOT NULL,
    test BIGINT NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at BIGINT,
    ack_note TEXT,
    version BIGINT NOT NULL,
    partition_number BIGINT NOT NULL,
    cause_offset BIGINT NOT NULL,
    cause_ordinal BIGINT NOT NULL
);
CREATE INDEX episodes_heard ON episodes (heard_at, alert);
CREATE INDEX episodes_patient ON episodes (patient);
CREATE INDEX episodes_state ON episodes (state);

CREATE TABLE episode_history (
    alert TEXT NOT NULL REFERENCES episodes (alert),
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    what TEXT NOT NULL,
    person TEXT,
    note TEXT,
    PRIMARY KEY (alert, n)
);

CREATE TABLE notifications (
    id TEXT PRIMARY KEY,
    alert TEXT NOT NULL REFERENCES episodes (alert),
    kind TEXT NOT NULL,
    channel TEXT NOT NULL,
    stable_key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT
);
CREATE INDEX notifications_due ON notifications (state, next_at);
CREATE INDEX notifications_alert ON notifications (alert);

CREATE TABLE timers (
    id TEXT PRIMARY KEY,
    alert TEXT NOT NULL REFERENCES episodes (alert),
    kind TEXT NOT NULL,
    due BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT,
    done BIGINT NOT NULL
);
CREATE INDEX timers_due ON timers (done, due);
CREATE INDEX timers_alert ON timers (alert);

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE one_time_links (
    token {BYTES} PRIMARY KEY,
    person TEXT NOT NULL REFERENCES users (name),
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE TABLE sessions (
    token {BYTES} PRIMARY KEY,
    person TEXT NOT NULL REFERENCES users (name),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_person ON sessions (person);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    token {BYTES} NOT NULL UNIQUE,
    person TEXT NOT NULL REFERENCES users (name),
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    person TEXT NOT NULL,
    action TEXT NOT NULL,
    patient TEXT,
    detail TEXT NOT NULL,
    previous {BYTES} NOT NULL,
    hash {BYTES} NOT NULL
);
CREATE INDEX audit_patient ON audit (patient, seq);
CREATE INDEX audit_person ON audit (person, seq);
