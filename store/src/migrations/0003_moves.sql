-- Devices whose readings since a time may stand with another patient than the registry says now. `asked` counts up, so that what was asked
-- for while a move went on is done after it.
CREATE TABLE moves (device TEXT PRIMARY KEY, since BIGINT NOT NULL, due_at BIGINT NOT NULL, asked BIGINT NOT NULL);
