-- What people do about an alert, and when each hop of it was. Acknowledgement, snooze and owner end by themselves or by somebody; the
-- history keeps them.
ALTER TABLE episodes ADD COLUMN ack_until BIGINT;
ALTER TABLE episodes ADD COLUMN owner TEXT;
ALTER TABLE episodes ADD COLUMN snoozed_until BIGINT;
ALTER TABLE episodes ADD COLUMN snoozed_by TEXT;
ALTER TABLE episodes ADD COLUMN snooze_reason TEXT;
ALTER TABLE episodes ADD COLUMN verdict TEXT;
ALTER TABLE episodes ADD COLUMN verdict_by TEXT;
ALTER TABLE episodes ADD COLUMN verdict_at BIGINT;
ALTER TABLE episodes ADD COLUMN verdict_note TEXT;
-- the step of the escalation that is paged next, and how often all of them were gone through before
ALTER TABLE episodes ADD COLUMN page_round BIGINT NOT NULL DEFAULT 0;
ALTER TABLE episodes ADD COLUMN page_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE episodes ADD COLUMN evaluated_at BIGINT;
ALTER TABLE episodes ADD COLUMN stored_at BIGINT;
ALTER TABLE episodes ADD COLUMN attempted_at BIGINT;
ALTER TABLE episodes ADD COLUMN delivered_at BIGINT;
ALTER TABLE episodes ADD COLUMN seen_at BIGINT;
ALTER TABLE episodes ADD COLUMN taken_at BIGINT;
CREATE INDEX episodes_verdict ON episodes (verdict, raised_at);

-- whom a page is for, the channels that are tried when this one fails (JSON), and what the receiver answered
ALTER TABLE notifications ADD COLUMN person TEXT;
ALTER TABLE notifications ADD COLUMN fallback TEXT NOT NULL DEFAULT '[]';
ALTER TABLE notifications ADD COLUMN receipt TEXT;

CREATE TABLE idempotency_keys (
    person TEXT NOT NULL,
    request_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (person, request_key)
);

-- links of pages that were used: each works once
CREATE TABLE used_links (token {BYTES} PRIMARY KEY, at BIGINT NOT NULL);
