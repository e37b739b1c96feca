-- The whole current schema of a qwarden database. `src/db/migrate.rs` runs it on an empty file and lifts older files to it.
--
-- Times (`timestamp`, `_at`, `hour`) are Unix milliseconds, durations (`_ms`) milliseconds, money (`_microusd`) whole
-- micro-dollars, truth values 0 or 1. Ids in text are made by the program; ids in numbers are SQLite's and never reused.


-- Configuration ------------------------------------------------------------------------------------------------------

-- What an operator changed from its default: one row per setting, the value as JSON.
CREATE TABLE settings (
    key        TEXT    NOT NULL PRIMARY KEY,
    value      TEXT    NOT NULL CHECK (json_valid(value)),
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Facts about this database itself that are nobody's setting, such as where it was imported from.
CREATE TABLE metadata (
    key        TEXT    NOT NULL PRIMARY KEY,
    value      TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The entries requests can be routed to. `auto_enable` = 1: becomes enabled when its local server is first seen.
CREATE TABLE providers (
    id          TEXT    NOT NULL CHECK (id <> ''),
    name        TEXT    NOT NULL CHECK (name <> ''),
    type        TEXT    NOT NULL CHECK (type <> ''),
    enabled     INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    priority    INTEGER NOT NULL DEFAULT 0,
    description TEXT,
    origin      TEXT    NOT NULL DEFAULT 'user' CHECK (origin IN ('user', 'seed', 'discovered', 'import')),
    auto_enable INTEGER NOT NULL DEFAULT 0 CHECK (auto_enable IN (0, 1)),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (name),
    PRIMARY KEY (id)  -- the last one is checked first: a provider made twice is told of its id, not of its name
) STRICT;

CREATE INDEX providers_by_priority ON providers (priority DESC, name);

-- A provider's configuration, one row per key, the value as JSON; `sealed` = 1: the value is encrypted text instead.
CREATE TABLE provider_configs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    provider_id  TEXT    NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
    key          TEXT    NOT NULL CHECK (key <> ''),
    value        TEXT    NOT NULL,
    is_sensitive INTEGER NOT NULL DEFAULT 0 CHECK (is_sensitive IN (0, 1)),
    sealed       INTEGER NOT NULL DEFAULT 0 CHECK (sealed IN (0, 1)),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (provider_id, key),
    CHECK (sealed = 1 OR json_valid(value))
) STRICT;

-- Models an operator described; what an upstream merely lists is not stored.
CREATE TABLE models (
    id           TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name         TEXT    NOT NULL CHECK (name <> ''),
    description  TEXT,
    capabilities TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(capabilities) AND json_type(capabilities) = 'array'),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX models_by_name ON models (name);

-- Which models a provider is asked for, and which one when a request names none.
CREATE TABLE provider_models (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    provider_id TEXT    NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
    model_id    TEXT    NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    is_default  INTEGER NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1)),
    config      TEXT    CHECK (json_valid(config)),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (provider_id, model_id)
) STRICT;

CREATE UNIQUE INDEX provider_models_one_default ON provider_models (provider_id) WHERE is_default = 1;
CREATE INDEX provider_models_by_model ON provider_models (model_id);

-- Names that stand for a list of targets. A name may hold `*`, for any text.
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

-- A target is `provider/model`, a model's name or a virtual model's. It refers to nothing: providers and lists come and go.
CREATE TABLE virtual_targets (
    virtual_model TEXT    NOT NULL REFERENCES virtual_models (name) ON DELETE CASCADE ON UPDATE CASCADE,
    position      INTEGER NOT NULL CHECK (position >= 0),
    target        TEXT    NOT NULL CHECK (target <> ''),
    weight        INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 1),
    PRIMARY KEY (virtual_model, position)
) STRICT, WITHOUT ROWID;

-- Logins at Qwen. `sealed` = 1: token, cookies and headers are encrypted.
CREATE TABLE credentials (
    id               TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    label            TEXT    NOT NULL,
    kind             TEXT    NOT NULL CHECK (kind IN ('jwt', 'umid', 'guest')),
    token            BLOB,
    cookies          BLOB,
    headers          BLOB,
    sealed           INTEGER NOT NULL DEFAULT 0 CHECK (sealed IN (0, 1)),
    expires_at       INTEGER,
    state            TEXT    NOT NULL DEFAULT 'valid'
                             CHECK (state IN ('missing', 'valid', 'expiring', 'expired', 'rejected', 'challenged')),
    last_used_at     INTEGER,
    limited_until    INTEGER,
    last_verified_at INTEGER,
    last_error       TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;


-- History ------------------------------------------------------------------------------------------------------------

-- Conversations that Qwen keeps for us, so that the next request of one continues it.
CREATE TABLE sessions (
    id                 TEXT    NOT NULL PRIMARY KEY,
    chat_id            TEXT    NOT NULL,
    parent_id          TEXT,
    first_user_message TEXT    NOT NULL,
    message_count      INTEGER NOT NULL DEFAULT 0,
    user_id            TEXT,
    conversation_hash  TEXT,
    credential_id      TEXT    REFERENCES credentials (id) ON DELETE SET NULL,
    model              TEXT,
    created_at         INTEGER NOT NULL,
    last_accessed      INTEGER NOT NULL,
    expires_at         INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_creation ON sessions (created_at);
CREATE INDEX sessions_by_access ON sessions (last_accessed);
CREATE INDEX sessions_by_chat ON sessions (chat_id);
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_by_conversation ON sessions (conversation_hash) WHERE conversation_hash IS NOT NULL;
CREATE INDEX sessions_by_credential ON sessions (credential_id) WHERE credential_id IS NOT NULL;

-- Every answer of a conversation by the hash of what led to it: where a request that repeats that history goes on.
-- `login` names a credential and refers to nothing, since a login of the environment has no row.
CREATE TABLE session_turns (
    hash       TEXT    NOT NULL PRIMARY KEY CHECK (length(hash) = 64),
    session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    login      TEXT    NOT NULL,
    chat_id    TEXT    NOT NULL,
    parent_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX session_turns_by_session ON session_turns (session_id);
CREATE INDEX session_turns_by_chat ON session_turns (chat_id);

-- What clients asked, one row per exchange, written before an upstream is called. `provider_id` names the provider that
-- answered last and refers to nothing: history outlives a provider. A body is JSON text, or a BLOB: the same text packed
-- by Zstandard. `bodies_dropped` = 1: notes stand where the bodies were, the answer's too. `plan` says which targets it had,
-- `key_id` whose key it came with; the key may be gone.
CREATE TABLE requests (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id        TEXT    NOT NULL UNIQUE,
    client_request_id TEXT,
    session_id        TEXT    REFERENCES sessions (id) ON DELETE CASCADE,
    timestamp         INTEGER NOT NULL,
    method            TEXT    NOT NULL,
    path              TEXT    NOT NULL,
    port              INTEGER,
    user_agent        TEXT,
    openai_request    ANY     NOT NULL CHECK (typeof(openai_request) = 'blob' OR json_valid(openai_request)),
    qwen_request      ANY     CHECK (typeof(qwen_request) = 'blob' OR json_valid(qwen_request)),
    model             TEXT    NOT NULL,
    stream            INTEGER NOT NULL CHECK (stream IN (0, 1)),
    provider_id       TEXT,
    status            TEXT    NOT NULL DEFAULT 'in_progress'
                              CHECK (status IN ('in_progress', 'completed', 'failed', 'client_closed', 'interrupted')),
    tags              TEXT    CHECK (json_valid(tags)),
    created_at        INTEGER NOT NULL,
    bodies_dropped    INTEGER NOT NULL DEFAULT 0 CHECK (bodies_dropped IN (0, 1)),
    plan              TEXT    CHECK (json_valid(plan)),
    key_id            TEXT
) STRICT;

CREATE INDEX requests_by_time ON requests (timestamp DESC);
CREATE INDEX requests_by_model ON requests (model, timestamp DESC, stream);
CREATE INDEX requests_by_provider ON requests (provider_id, timestamp DESC);
CREATE INDEX requests_by_status ON requests (status, timestamp DESC);
CREATE INDEX requests_by_session ON requests (session_id, timestamp DESC) WHERE session_id IS NOT NULL;
CREATE INDEX requests_by_client_id ON requests (client_request_id) WHERE client_request_id IS NOT NULL;
CREATE INDEX requests_by_replay ON requests (json_extract(tags, '$.replay_of')) WHERE tags IS NOT NULL;
CREATE INDEX requests_by_key ON requests (key_id, timestamp DESC) WHERE key_id IS NOT NULL;
CREATE INDEX requests_with_bodies ON requests (timestamp, id) WHERE bodies_dropped = 0;

-- Every try at a target that an exchange made, in order. `resumed_at`: it went on with an answer of which the client had so
-- many characters.
CREATE TABLE attempts (
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
    outcome         TEXT    NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'cancelled')),
    error           TEXT,
    error_code      TEXT,
    resumed_at      INTEGER,
    UNIQUE (request_id, number)
) STRICT;

CREATE INDEX attempts_by_provider ON attempts (provider_id, started_at DESC);

-- How exchanges ended, one row each. `attempts` counts the tries, the rows of that name tell them. `from_cache` = 1: no
-- upstream was asked, the tokens are those of the answer that was given again.
CREATE TABLE responses (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id        INTEGER NOT NULL UNIQUE REFERENCES requests (id) ON DELETE CASCADE,
    session_id        TEXT    REFERENCES sessions (id) ON DELETE CASCADE,
    response_id       TEXT    NOT NULL UNIQUE,
    timestamp         INTEGER NOT NULL,
    qwen_response     ANY     CHECK (typeof(qwen_response) = 'blob' OR json_valid(qwen_response)),
    openai_response   ANY     CHECK (typeof(openai_response) = 'blob' OR json_valid(openai_response)),
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
) STRICT;

CREATE INDEX responses_by_time ON responses (timestamp DESC);
CREATE INDEX responses_by_provider ON responses (provider_id, timestamp DESC);
CREATE INDEX responses_by_session ON responses (session_id, timestamp DESC) WHERE session_id IS NOT NULL;
CREATE INDEX responses_by_error ON responses (error_code, timestamp DESC) WHERE error_code IS NOT NULL;

-- The raw bytes of exchanges that were recorded, with their times (`src/protocol/recording.rs`), packed.
CREATE TABLE recordings (
    request_id INTEGER NOT NULL PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    format     INTEGER NOT NULL,
    packed     BLOB    NOT NULL
) STRICT;

-- The words of exchanges, for the search; `rowid` is the request's id. Without the texts, which are in the bodies. How words
-- are written in it: `src/db/history/words.rs`.
CREATE VIRTUAL TABLE history_words USING fts5 (
    prompt, answer, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- Or else adding and deleting would make the index rewrite itself meanwhile; the writer has it done between transactions, and
-- retention what was deleted, in pieces that are counted in pages: hence small ones. There can be 2,000 parts: should merging
-- ever stay behind, it happens at once long before that.
INSERT INTO history_words (history_words, rank) VALUES
    ('deletemerge', 0), ('pgsz', 1000), ('automerge', 0), ('crisismerge', 1000);

-- However an exchange goes, with its session too, its words go along.
CREATE TRIGGER requests_take_their_words AFTER DELETE ON requests BEGIN
    DELETE FROM history_words WHERE rowid = old.id;
END;

-- Sums per hour that survive the deletion of history. An exchange no provider took is counted under empty names, so that
-- made-up model names cannot make rows.
CREATE TABLE usage_rollups (
    hour              INTEGER NOT NULL,
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    requests          INTEGER NOT NULL DEFAULT 0,
    completed         INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    client_closed     INTEGER NOT NULL DEFAULT 0,
    attempts          INTEGER NOT NULL DEFAULT 0,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens      INTEGER NOT NULL DEFAULT 0,
    cached_tokens     INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens  INTEGER NOT NULL DEFAULT 0,
    duration_ms       INTEGER NOT NULL DEFAULT 0,
    cost_microusd     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, provider, model)
) STRICT, WITHOUT ROWID;

-- How long the exchanges of `usage_rollups` took, as histograms (`src/db/histogram.rs`): whole, and to the first content.
CREATE TABLE usage_latencies (
    hour           INTEGER NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    durations      BLOB    NOT NULL,
    first_contents BLOB    NOT NULL,
    PRIMARY KEY (hour, provider, model)
) STRICT, WITHOUT ROWID;

-- The sums of days that are over (UTC), so that a question about months reads days: of each provider and model, and of each
-- hour all of them together, histograms included. A day has all of its rows in both tables or none; they repeat what
-- `usage_rollups` and `usage_latencies` say, and go as soon as something is counted for that day.
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

-- What `usage_rollups` and `usage_latencies` say of conversations, histograms included; what belongs to none is not in it. Survives the deletion of the conversation
-- and of its history, for as long as the audit log is kept.
CREATE TABLE usage_by_session (
    session_id        TEXT    NOT NULL,
    hour              INTEGER NOT NULL,
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    requests          INTEGER NOT NULL DEFAULT 0,
    completed         INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    client_closed     INTEGER NOT NULL DEFAULT 0,
    attempts          INTEGER NOT NULL DEFAULT 0,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens      INTEGER NOT NULL DEFAULT 0,
    cached_tokens     INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens  INTEGER NOT NULL DEFAULT 0,
    duration_ms       INTEGER NOT NULL DEFAULT 0,
    cost_microusd     INTEGER NOT NULL DEFAULT 0,
    durations         BLOB    NOT NULL,
    first_contents    BLOB    NOT NULL,
    PRIMARY KEY (session_id, hour, provider, model)
) STRICT;

CREATE INDEX usage_by_session_by_hour ON usage_by_session (hour DESC, session_id);


-- What happened ------------------------------------------------------------------------------------------------------

-- The activity people read: configuration changed, proxy started, actor restarted.
CREATE TABLE activity (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    type        TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    description TEXT    NOT NULL,
    metadata    TEXT    NOT NULL CHECK (json_valid(metadata)),
    timestamp   INTEGER NOT NULL
) STRICT;

CREATE INDEX activity_by_time ON activity (timestamp DESC);
CREATE INDEX activity_by_type ON activity (type, timestamp DESC);

-- Starts, failures and restarts of the program's own actors.
CREATE TABLE actor_events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    actor       TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    reason      TEXT,
    timestamp   INTEGER NOT NULL
) STRICT;

CREATE INDEX actor_events_by_time ON actor_events (timestamp DESC);
CREATE INDEX actor_events_by_actor ON actor_events (actor, timestamp DESC);

-- Who changed what, with the state before and after; secrets are masked by the writer.
CREATE TABLE audit_log (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    principal  TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    entity     TEXT    NOT NULL,
    entity_id  TEXT,
    before     TEXT    CHECK (json_valid(before)),
    after      TEXT    CHECK (json_valid(after)),
    request_id TEXT,
    timestamp  INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_log_by_time ON audit_log (timestamp DESC);
CREATE INDEX audit_log_by_entity ON audit_log (entity, entity_id, timestamp DESC);

-- Failures worth a look, until somebody marks them as resolved.
CREATE TABLE errors (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    error_id         TEXT    NOT NULL UNIQUE,
    timestamp        INTEGER NOT NULL,
    error_type       TEXT    NOT NULL,
    error_code       TEXT,
    error_message    TEXT    NOT NULL,
    stack_trace      TEXT,
    session_id       TEXT    REFERENCES sessions (id) ON DELETE SET NULL,
    request_id       INTEGER REFERENCES requests (id) ON DELETE SET NULL,
    endpoint         TEXT,
    method           TEXT,
    user_agent       TEXT,
    request_payload  TEXT,
    response_payload TEXT,
    severity         TEXT    NOT NULL CHECK (severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    resolved         INTEGER NOT NULL DEFAULT 0 CHECK (resolved IN (0, 1)),
    notes            TEXT,
    created_at       INTEGER NOT NULL
) STRICT;

CREATE INDEX errors_by_time ON errors (timestamp DESC);
CREATE INDEX errors_by_type ON errors (error_type, timestamp DESC);
CREATE INDEX errors_by_severity ON errors (severity, resolved, timestamp DESC);
CREATE INDEX errors_by_session ON errors (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX errors_by_request ON errors (request_id) WHERE request_id IS NOT NULL;

-- Answers that are given again to the same question. `key` is a SHA-256 of the question (`src/protocol/openai/normalise.rs`).
-- `body` is what went to the client, packed by Zstandard: a document, or the events of a stream one after the other. It
-- stands last, so that the sums of `bytes` need not read past it.
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
CREATE INDEX response_cache_by_model ON response_cache (model, created_at);


-- Exactly once -------------------------------------------------------------------------------------------------------

-- Answers to management requests that carried an `Idempotency-Key`, replayed when the key comes again. `location` is the
-- header of that name.
CREATE TABLE idempotency_keys (
    key        TEXT    NOT NULL,
    method     TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    body_hash  TEXT    NOT NULL,
    status     INTEGER NOT NULL,
    location   TEXT,
    body       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (key, method, path)
) STRICT;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Write operations already carried out: one that is repeated after a crash of the writer is recognised here.
CREATE TABLE operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id  TEXT    NOT NULL UNIQUE
) STRICT;


-- Access -------------------------------------------------------------------------------------------------------------

-- Keys of the clients of :3000 and :3001, as salted hashes; `prefix` is the part that is shown. `allowed_models` = NULL:
-- every model. The budgets count per day and month (UTC).
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
    last_used_at     INTEGER,
    cost_per_day_microusd   INTEGER CHECK (cost_per_day_microusd >= 0),
    cost_per_month_microusd INTEGER CHECK (cost_per_month_microusd >= 0)
) STRICT;

CREATE INDEX api_keys_by_prefix ON api_keys (prefix);

-- What was used with a key, by the day (UTC, Unix ms of its beginning).
CREATE TABLE key_usage (
    key_id        TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    day           INTEGER NOT NULL,
    requests      INTEGER NOT NULL DEFAULT 0,
    tokens        INTEGER NOT NULL DEFAULT 0,
    cost_microusd INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key_id, day)
) STRICT, WITHOUT ROWID;
