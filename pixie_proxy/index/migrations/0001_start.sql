-- Times are integer microseconds since the epoch (UTC), money is integer micros (US dollars × 10⁶), flags are 0 or 1.
-- WITHOUT ROWID where rows are small and found by their key; `requests` and `images` have rows too wide for it.

CREATE TABLE users (
    id          TEXT     NOT NULL PRIMARY KEY,
    name        TEXT     NOT NULL UNIQUE,
    role        TEXT     NOT NULL CHECK (role IN ('admin', 'member', 'viewer')),
    disabled    SMALLINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    is_declared SMALLINT NOT NULL DEFAULT 0 CHECK (is_declared IN (0, 1)),
    limits      TEXT     NOT NULL DEFAULT '{}', -- JSON: only the limits that were set for this user
    created_us  BIGINT   NOT NULL
) WITHOUT ROWID;

CREATE TABLE keys (
    id           TEXT     NOT NULL PRIMARY KEY,
    user_id      TEXT     NOT NULL REFERENCES users (id),
    digest       TEXT     NOT NULL UNIQUE, -- SHA-256 in hex: the key itself is nowhere
    prefix       TEXT     NOT NULL,
    name         TEXT     NOT NULL,
    created_us   BIGINT   NOT NULL,
    expires_us   BIGINT,
    revoked_us   BIGINT,
    last_used_us BIGINT,
    is_declared  SMALLINT NOT NULL DEFAULT 0 CHECK (is_declared IN (0, 1))
) WITHOUT ROWID;

CREATE INDEX keys_by_user ON keys (user_id, id);

CREATE TABLE accounts (
    subject            TEXT   NOT NULL PRIMARY KEY,
    requests_tat_us    BIGINT NOT NULL DEFAULT 0,
    images_tat_us      BIGINT NOT NULL DEFAULT 0,
    in_flight          BIGINT NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    day                TEXT   NOT NULL DEFAULT '',
    spent_day_micros   BIGINT NOT NULL DEFAULT 0 CHECK (spent_day_micros >= 0),
    month              TEXT   NOT NULL DEFAULT '',
    spent_month_micros BIGINT NOT NULL DEFAULT 0 CHECK (spent_month_micros >= 0),
    spent_life_micros  BIGINT NOT NULL DEFAULT 0 CHECK (spent_life_micros >= 0),
    held_micros        BIGINT NOT NULL DEFAULT 0 CHECK (held_micros >= 0)
) WITHOUT ROWID;

-- key_id has no foreign key: the ledger outlives the keys.
CREATE TABLE requests (
    id                  TEXT     NOT NULL PRIMARY KEY,
    user_id             TEXT     NOT NULL REFERENCES users (id),
    key_id              TEXT,
    kind                TEXT     NOT NULL CHECK (kind IN ('generation', 'edit', 'variation')),
    requested_model     TEXT,
    model               TEXT     NOT NULL,
    prompt              TEXT,
    params              TEXT     NOT NULL DEFAULT '{}',
    images_asked        BIGINT   NOT NULL CHECK (images_asked >= 0),
    is_stream           SMALLINT NOT NULL CHECK (is_stream IN (0, 1)),
    fingerprint         TEXT     NOT NULL,
    idempotency_key     TEXT,
    state               TEXT     NOT NULL CHECK (state IN ('admitted', 'sent', 'done', 'failed', 'unknown')),
    is_delivered        SMALLINT NOT NULL DEFAULT 0 CHECK (is_delivered IN (0, 1)),
    hold_micros         BIGINT   NOT NULL CHECK (hold_micros >= 0),
    cost_micros         BIGINT   CHECK (cost_micros >= 0),
    error               TEXT,
    upstream_request_id TEXT,
    flags               TEXT     NOT NULL DEFAULT '[]',
    process             TEXT     NOT NULL,
    created_us          BIGINT   NOT NULL,
    settled_us          BIGINT,
    usage               TEXT,
    skeleton            BLOB -- last, because it is long: what stands before it is read without it
);

CREATE INDEX requests_by_user ON requests (user_id, id);
CREATE INDEX requests_by_fingerprint ON requests (fingerprint, created_us);
CREATE INDEX requests_open ON requests (process, state) WHERE state IN ('admitted', 'sent');
CREATE UNIQUE INDEX requests_by_idempotency_key ON requests (user_id, kind, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE images (
    id             TEXT     NOT NULL PRIMARY KEY,
    request_id     TEXT     NOT NULL REFERENCES requests (id),
    position       BIGINT   NOT NULL CHECK (position >= 0),
    owner_id       TEXT     NOT NULL REFERENCES users (id),
    ref            TEXT     NOT NULL,
    mime           TEXT     NOT NULL,
    size_bytes     BIGINT   NOT NULL CHECK (size_bytes >= 0),
    width          BIGINT,
    height         BIGINT,
    sha256         TEXT     NOT NULL,
    revised_prompt TEXT,
    visibility     TEXT     NOT NULL CHECK (visibility IN ('private', 'team', 'public')),
    link_epoch     BIGINT   NOT NULL DEFAULT 0,
    created_us     BIGINT   NOT NULL,
    deleted_us     BIGINT,
    expires_us     BIGINT,
    kind           TEXT     NOT NULL CHECK (kind IN ('generation', 'edit', 'variation')),
    model          TEXT     NOT NULL,
    siblings       BIGINT   NOT NULL CHECK (siblings >= 1),
    UNIQUE (request_id, position)
);

-- A list is one walk for each visibility that its viewer may see (browsing.page), along the index that fits its filters.
CREATE INDEX images_by_visibility ON images (visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_model ON images (model, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_owner ON images (owner_id, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_owner_and_model ON images (owner_id, model, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_in_trash ON images (id, owner_id) WHERE deleted_us IS NOT NULL;
CREATE INDEX images_to_expire ON images (expires_us) WHERE expires_us IS NOT NULL AND deleted_us IS NULL;

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
