-- Who is on shift, who looks after whom, what is handed over, and what stands pinned beside a patient.
CREATE TABLE shifts (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES users (name),
    ward TEXT NOT NULL REFERENCES wards (id),
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- why patients were left to nobody
    reason TEXT
);
CREATE UNIQUE INDEX shifts_running ON shifts (person) WHERE ended_at IS NULL;

CREATE TABLE charges (
    patient TEXT PRIMARY KEY REFERENCES patients (id),
    person TEXT NOT NULL REFERENCES users (name),
    since BIGINT NOT NULL
);
CREATE INDEX charges_person ON charges (person);

CREATE TABLE handovers (
    id TEXT PRIMARY KEY,
    patient TEXT NOT NULL REFERENCES patients (id),
    giver TEXT NOT NULL REFERENCES users (name),
    taker TEXT NOT NULL REFERENCES users (name),
    note TEXT NOT NULL,
    offered_at BIGINT NOT NULL,
    answered_at BIGINT,
    answer TEXT
);
CREATE UNIQUE INDEX handovers_open ON handovers (patient) WHERE answered_at IS NULL;

CREATE TABLE pins (
    id TEXT PRIMARY KEY,
    patient TEXT NOT NULL REFERENCES patients (id),
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    pinned_at BIGINT NOT NULL,
    removed_by TEXT,
    removed_at BIGINT
);
CREATE INDEX pins_patient ON pins (patient, pinned_at);
