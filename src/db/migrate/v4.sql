-- From version 3: days that are over have their sums, and exchanges of a model are counted by how they were asked for from the
-- index alone. Words are written otherwise in their index. Retention sums the days there are, and fills the index again.

CREATE TABLE usage_days (
    day               INTEGER NOT NULL,
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    requests          INTEGER NOT NULL,
    completed         INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    client_closed     INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens      INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,
    duration_ms       INTEGER NOT NULL,
    cost_microusd     INTEGER NOT NULL,
    durations         BLOB    NOT NULL,
    first_contents    BLOB    NOT NULL,
    PRIMARY KEY (day, provider, model)
) STRICT;

CREATE TABLE usage_hours (
    hour              INTEGER NOT NULL PRIMARY KEY,
    requests          INTEGER NOT NULL,
    completed         INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    client_closed     INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens      INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,
    duration_ms       INTEGER NOT NULL,
    cost_microusd     INTEGER NOT NULL,
    durations         BLOB    NOT NULL,
    first_contents    BLOB    NOT NULL
) STRICT;

DROP INDEX requests_by_model;

CREATE INDEX requests_by_model ON requests (model, timestamp DESC, stream);

DROP TABLE history_words;

CREATE VIRTUAL TABLE history_words USING fts5 (
    prompt, answer, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

INSERT INTO history_words (history_words, rank) VALUES ('deletemerge', 0), ('pgsz', 1000);
