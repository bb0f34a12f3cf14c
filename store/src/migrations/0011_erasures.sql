-- Patients who were taken out of the lake: no later version has them again.
CREATE TABLE erasures (
    patient TEXT PRIMARY KEY,
    erased_at BIGINT NOT NULL,
    person TEXT NOT NULL,
    reason TEXT NOT NULL
);
