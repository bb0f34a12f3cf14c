-- What is wrong with Vigil itself, for as long as it is: somebody is told when it begins, again while it lasts, and when it is over.
CREATE TABLE troubles (
    name TEXT NOT NULL, since BIGINT NOT NULL, what TEXT NOT NULL, told_at BIGINT, tellings BIGINT NOT NULL, over_at BIGINT, closed BIGINT NOT NULL,
    PRIMARY KEY (name, since)
);
