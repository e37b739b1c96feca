-- From version 1: bodies may be packed and dropped, exchanges have their words in an index and may be recorded, and there
-- are virtual models.
--
-- The tables change in what their columns allow and by columns at the end that have a default. Neither touches a row,
-- so the definitions are exchanged (https://sqlite.org/lang_altertable.html, section 7) instead of copying the history.

PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = 'CREATE TABLE requests (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id        TEXT    NOT NULL UNIQUE,
    client_request_id TEXT,
    session_id        TEXT    REFERENCES sessions (id) ON DELETE CASCADE,
    timestamp         INTEGER NOT NULL,
    method            TEXT    NOT NULL,
    path              TEXT    NOT NULL,
    port              INTEGER,
    user_agent        TEXT,
    openai_request    ANY     NOT NULL CHECK (typeof(openai_request) = ''blob'' OR json_valid(openai_request)),
    qwen_request      ANY     CHECK (typeof(qwen_request) = ''blob'' OR json_valid(qwen_request)),
    model             TEXT    NOT NULL,
    stream            INTEGER NOT NULL CHECK (stream IN (0, 1)),
    provider_id       TEXT,
    status            TEXT    NOT NULL DEFAULT ''in_progress''
                              CHECK (status IN (''in_progress'', ''completed'', ''failed'', ''client_closed'', ''interrupted'')),
    tags              TEXT    CHECK (json_valid(tags)),
    created_at        INTEGER NOT NULL,
    bodies_dropped    INTEGER NOT NULL DEFAULT 0 CHECK (bodies_dropped IN (0, 1)),
    plan              TEXT    CHECK (json_valid(plan))
) STRICT'
 WHERE type = 'table' AND name = 'requests';

UPDATE sqlite_schema SET sql = 'CREATE TABLE attempts (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id      INTEGER NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    number          INTEGER NOT NULL,
    provider_id     TEXT    NOT NULL,
    upstream_model  TEXT    NOT NULL,
    started_at      INTEGER NOT NULL,
    duration_ms     INTEGER NOT NULL,
    connect_ms      INTEGER,
    ttft_ms         INTEGER,
    upstream_status INTEGER,
    outcome         TEXT    NOT NULL CHECK (outcome IN (''succeeded'', ''failed'', ''cancelled'')),
    error           TEXT,
    error_code      TEXT,
    resumed_at      INTEGER,
    UNIQUE (request_id, number)
) STRICT'
 WHERE type = 'table' AND name = 'attempts';

UPDATE sqlite_schema SET sql = 'CREATE TABLE responses (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id        INTEGER NOT NULL UNIQUE REFERENCES requests (id) ON DELETE CASCADE,
    session_id        TEXT    REFERENCES sessions (id) ON DELETE CASCADE,
    response_id       TEXT    NOT NULL UNIQUE,
    timestamp         INTEGER NOT NULL,
    qwen_response     ANY     CHECK (typeof(qwen_response) = ''blob'' OR json_valid(qwen_response)),
    openai_response   ANY     CHECK (typeof(openai_response) = ''blob'' OR json_valid(openai_response)),
    parent_id         TEXT,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    total_tokens      INTEGER,
    cached_tokens     INTEGER,
    reasoning_tokens  INTEGER,
    cost_microusd     INTEGER,
    finish_reason     TEXT,
    error             TEXT,
    error_code        TEXT,
    provider_id       TEXT,
    upstream_model    TEXT,
    http_status       INTEGER NOT NULL,
    upstream_status   INTEGER,
    attempts          INTEGER NOT NULL DEFAULT 0,
    queue_ms          INTEGER,
    ttft_ms           INTEGER,
    duration_ms       INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    from_cache        INTEGER NOT NULL DEFAULT 0 CHECK (from_cache IN (0, 1))
) STRICT'
 WHERE type = 'table' AND name = 'responses';

PRAGMA writable_schema = RESET;

CREATE INDEX requests_with_bodies ON requests (timestamp, id) WHERE bodies_dropped = 0;

CREATE VIRTUAL TABLE history_words USING fts5 (
    prompt, answer, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- Or else deleting would make the index rewrite itself meanwhile; retention has it done in pieces.
INSERT INTO history_words (history_words, rank) VALUES ('deletemerge', 0);

CREATE TRIGGER requests_take_their_words AFTER DELETE ON requests BEGIN
    DELETE FROM history_words WHERE rowid = old.id;
END;

CREATE TABLE usage_latencies (
    hour           INTEGER NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    durations      BLOB    NOT NULL,
    first_contents BLOB    NOT NULL,
    PRIMARY KEY (hour, provider, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_by_replay ON requests (json_extract(tags, '$.replay_of')) WHERE tags IS NOT NULL;

CREATE TABLE api_keys (
    id               TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name             TEXT    NOT NULL CHECK (name <> ''),
    prefix           TEXT    NOT NULL CHECK (prefix <> ''),
    hash             TEXT    NOT NULL,
    allowed_models   TEXT    CHECK (json_valid(allowed_models) AND json_type(allowed_models) = 'array'),
    expires_at       INTEGER,
    disabled         INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    rate_per_minute  INTEGER CHECK (rate_per_minute > 0),
    tokens_per_day   INTEGER CHECK (tokens_per_day >= 0),
    tokens_per_month INTEGER CHECK (tokens_per_month >= 0),
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    last_used_at     INTEGER
) STRICT;

CREATE INDEX api_keys_by_prefix ON api_keys (prefix);

CREATE TABLE recordings (
    request_id INTEGER NOT NULL PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    format     INTEGER NOT NULL,
    packed     BLOB    NOT NULL
) STRICT;

CREATE TABLE response_cache (
    key            BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    model          TEXT    NOT NULL,
    provider_id    TEXT    NOT NULL,
    upstream_model TEXT    NOT NULL,
    is_stream      INTEGER NOT NULL CHECK (is_stream IN (0, 1)),
    only_asked     INTEGER NOT NULL CHECK (only_asked IN (0, 1)),
    usage          TEXT    CHECK (json_valid(usage)),
    bytes          INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    last_hit_at    INTEGER NOT NULL,
    hits           INTEGER NOT NULL DEFAULT 0,
    body           BLOB    NOT NULL
) STRICT;

CREATE INDEX response_cache_by_expiry ON response_cache (expires_at);
CREATE INDEX response_cache_by_use ON response_cache (last_hit_at, bytes);
CREATE INDEX response_cache_by_creation ON response_cache (created_at);

CREATE TABLE virtual_models (
    name        TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    description TEXT,
    strategy    TEXT    NOT NULL DEFAULT 'priority'
                        CHECK (strategy IN ('priority', 'weighted', 'round_robin', 'least_latency', 'least_busy',
                                            'cheapest', 'sticky')),
    enabled     INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE virtual_targets (
    virtual_model TEXT    NOT NULL REFERENCES virtual_models (name) ON DELETE CASCADE ON UPDATE CASCADE,
    position      INTEGER NOT NULL CHECK (position >= 0),
    target        TEXT    NOT NULL CHECK (target <> ''),
    weight        INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 1),
    PRIMARY KEY (virtual_model, position)
) STRICT, WITHOUT ROWID;
