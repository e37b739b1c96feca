-- From version 2: sums by conversation that survive its deletion, the `Location` of answers that are given again, and an
-- index by which a model's kept answers are dropped.

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

-- What is in the history is counted as if it had ended today: as `src/db/usage.rs` bounds it, with histograms as
-- `src/db/histogram.rs` writes them, one pair of bucket and count for each exchange.
WITH RECURSIVE
powers (power) AS (SELECT 4 UNION ALL SELECT power + 1 FROM powers WHERE power < 29),
ended AS (
    SELECT a.session_id AS session_id, a.timestamp - a.timestamp % 3600000 AS hour,
           CASE WHEN a.from_cache THEN '' ELSE coalesce(a.provider_id, '') END AS provider,
           CASE WHEN a.provider_id IS NULL THEN '' ELSE r.model END AS model,
           r.status AS status, a.from_cache AS from_cache, a.attempts AS attempts,
           min(max(coalesce(a.prompt_tokens, 0), 0), 1000000000) AS prompt,
           min(max(coalesce(a.completion_tokens, 0), 0), 1000000000) AS completion,
           min(max(a.total_tokens, 0), 1000000000) AS total,
           min(max(coalesce(a.cached_tokens, 0), 0), 1000000000) AS cached,
           min(max(coalesce(a.reasoning_tokens, 0), 0), 1000000000) AS reasoning,
           min(max(a.duration_ms, 0), 1000000000) AS duration,
           min(max(coalesce(a.cost_microusd, 0), 0), 1000000000000) AS cost,
           min(max(a.ttft_ms, 0), 1073741823) AS ttft
      FROM responses a
      JOIN requests r ON r.id = a.request_id
     WHERE a.session_id IS NOT NULL
),
placed AS (
    SELECT *,
           CASE WHEN duration < 16 THEN duration
                ELSE (SELECT 16 + (max(power) - 4) * 8 + (duration >> (max(power) - 3)) - 8
                        FROM powers WHERE (1 << power) <= duration) END AS place,
           CASE WHEN ttft < 16 THEN ttft
                ELSE (SELECT 16 + (max(power) - 4) * 8 + (ttft >> (max(power) - 3)) - 8
                        FROM powers WHERE (1 << power) <= ttft) END AS first_place
      FROM ended
)
INSERT INTO usage_by_session (session_id, hour, provider, model, requests, completed, failed, client_closed, attempts,
                              prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, duration_ms,
                              cost_microusd, durations, first_contents)
SELECT session_id, hour, provider, model, count(*), sum(status = 'completed'), sum(status = 'failed'),
       sum(status = 'client_closed'), sum(attempts),
       sum(iif(from_cache, 0, prompt)), sum(iif(from_cache, 0, completion)),
       sum(iif(from_cache, 0, coalesce(total, prompt + completion))),
       sum(iif(from_cache, 0, cached)), sum(iif(from_cache, 0, reasoning)), sum(duration), sum(cost),
       unhex(group_concat(iif(place < 128, printf('%02X01', place),
                              printf('%02X%02X01', 128 | (place & 127), place >> 7)), '')),
       coalesce(unhex(group_concat(iif(first_place < 128, printf('%02X01', first_place),
                                       printf('%02X%02X01', 128 | (first_place & 127), first_place >> 7)), '')
                      FILTER (WHERE first_place IS NOT NULL)), x'')
  FROM placed
 GROUP BY session_id, hour, provider, model;

ALTER TABLE idempotency_keys RENAME TO earlier_keys;

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

INSERT INTO idempotency_keys (key, method, path, body_hash, status, body, created_at)
SELECT key, method, path, body_hash, status, body, created_at FROM earlier_keys;

DROP TABLE earlier_keys;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE INDEX response_cache_by_model ON response_cache (model, created_at);
