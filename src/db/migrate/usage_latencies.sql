CREATE TABLE usage_latencies (
    hour           INTEGER NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    durations      BLOB    NOT NULL,
    first_contents BLOB    NOT NULL,
    PRIMARY KEY (hour, provider, model)
) STRICT, WITHOUT ROWID;
