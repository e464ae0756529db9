-- The tables of SQLite's schema 11 (index/migrations says what each is for), with what PostgreSQL asks for beside: every
-- text is compared byte by byte (COLLATE "C"), as SQLite does, for ids sort by time and pages are cut by them; and no
-- statistics are kept of what people wrote (SET STATISTICS 0): they would outlive it.

CREATE TABLE users (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    role        TEXT COLLATE "C" NOT NULL CHECK (role IN ('admin', 'member', 'viewer')),
    disabled    SMALLINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    is_declared SMALLINT NOT NULL DEFAULT 0 CHECK (is_declared IN (0, 1)),
    limits      TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    created_us  BIGINT NOT NULL,
    deleted_us  BIGINT,
    erased_us   BIGINT
);

ALTER TABLE users ALTER COLUMN name SET STATISTICS 0;
CREATE INDEX users_deleted ON users (id) WHERE deleted_us IS NOT NULL;

CREATE TABLE keys (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id          TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    digest           TEXT COLLATE "C" NOT NULL UNIQUE,
    prefix           TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    created_us       BIGINT NOT NULL,
    expires_us       BIGINT,
    revoked_us       BIGINT,
    last_used_us     BIGINT,
    is_declared      SMALLINT NOT NULL DEFAULT 0 CHECK (is_declared IN (0, 1)),
    limits           TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    retired_digest   TEXT COLLATE "C",
    retired_until_us BIGINT,
    models           TEXT COLLATE "C" NOT NULL DEFAULT '[]'
);

ALTER TABLE keys ALTER COLUMN prefix SET STATISTICS 0, ALTER COLUMN name SET STATISTICS 0;
CREATE INDEX keys_by_user ON keys (user_id, id);
CREATE UNIQUE INDEX keys_by_retired_digest ON keys (retired_digest) WHERE retired_digest IS NOT NULL;

-- Few rows that change with every call: with room on their pages they change in place.
CREATE TABLE accounts (
    subject            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    requests_tat_us    BIGINT NOT NULL DEFAULT 0,
    images_tat_us      BIGINT NOT NULL DEFAULT 0,
    in_flight          BIGINT NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    day                TEXT COLLATE "C" NOT NULL DEFAULT '',
    spent_day_micros   BIGINT NOT NULL DEFAULT 0 CHECK (spent_day_micros >= 0),
    month              TEXT COLLATE "C" NOT NULL DEFAULT '',
    spent_month_micros BIGINT NOT NULL DEFAULT 0 CHECK (spent_month_micros >= 0),
    spent_life_micros  BIGINT NOT NULL DEFAULT 0 CHECK (spent_life_micros >= 0),
    held_micros        BIGINT NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
    images_day         BIGINT NOT NULL DEFAULT 0 CHECK (images_day >= 0)
) WITH (fillfactor = 25);

CREATE TABLE requests (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id             TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    key_id              TEXT COLLATE "C",
    kind                TEXT COLLATE "C" NOT NULL CHECK (kind IN ('generation', 'edit', 'variation')),
    requested_model     TEXT COLLATE "C",
    model               TEXT COLLATE "C" NOT NULL,
    prompt              TEXT COLLATE "C",
    params              TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    images_asked        BIGINT NOT NULL CHECK (images_asked >= 0),
    is_stream           SMALLINT NOT NULL CHECK (is_stream IN (0, 1)),
    fingerprint         TEXT COLLATE "C" NOT NULL,
    idempotency_key     TEXT COLLATE "C",
    state               TEXT COLLATE "C" NOT NULL CHECK (state IN ('admitted', 'sent', 'done', 'failed', 'unknown')),
    hold_micros         BIGINT NOT NULL CHECK (hold_micros >= 0),
    cost_micros         BIGINT CHECK (cost_micros >= 0),
    error               TEXT COLLATE "C",
    upstream_request_id TEXT COLLATE "C",
    flags               TEXT COLLATE "C" NOT NULL DEFAULT '[]',
    process             TEXT COLLATE "C" NOT NULL,
    created_us          BIGINT NOT NULL,
    settled_us          BIGINT,
    usage               TEXT COLLATE "C",
    skeleton            BYTEA
);

ALTER TABLE requests
    ALTER COLUMN requested_model SET STATISTICS 0,
    ALTER COLUMN prompt SET STATISTICS 0,
    ALTER COLUMN params SET STATISTICS 0,
    ALTER COLUMN fingerprint SET STATISTICS 0,
    ALTER COLUMN idempotency_key SET STATISTICS 0,
    ALTER COLUMN error SET STATISTICS 0,
    ALTER COLUMN upstream_request_id SET STATISTICS 0,
    ALTER COLUMN skeleton SET STATISTICS 0;
CREATE INDEX requests_by_user ON requests (user_id, id);
CREATE INDEX requests_by_key ON requests (key_id, id);
CREATE INDEX requests_open ON requests (process, state) WHERE state IN ('admitted', 'sent');
CREATE UNIQUE INDEX requests_by_idempotency_key ON requests (user_id, kind, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX requests_by_time ON requests
    (created_us, user_id, key_id, model, state, images_asked, cost_micros, hold_micros);

CREATE TABLE images (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request_id     TEXT COLLATE "C" NOT NULL REFERENCES requests (id),
    position       BIGINT NOT NULL CHECK (position >= 0),
    owner_id       TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    ref            TEXT COLLATE "C" NOT NULL,
    mime           TEXT COLLATE "C" NOT NULL,
    size_bytes     BIGINT NOT NULL CHECK (size_bytes >= 0),
    width          BIGINT,
    height         BIGINT,
    sha256         TEXT COLLATE "C" NOT NULL,
    revised_prompt TEXT COLLATE "C",
    visibility     TEXT COLLATE "C" NOT NULL CHECK (visibility IN ('private', 'team', 'public')),
    link_epoch     BIGINT NOT NULL DEFAULT 0,
    created_us     BIGINT NOT NULL,
    deleted_us     BIGINT,
    expires_us     BIGINT,
    kind           TEXT COLLATE "C" NOT NULL CHECK (kind IN ('generation', 'edit', 'variation')),
    model          TEXT COLLATE "C" NOT NULL,
    siblings       BIGINT NOT NULL CHECK (siblings >= 1),
    damage         TEXT COLLATE "C",
    damaged_us     BIGINT,
    tags           TEXT COLLATE "C" NOT NULL DEFAULT '[]',
    UNIQUE (request_id, position)
);

ALTER TABLE images
    ALTER COLUMN ref SET STATISTICS 0,
    ALTER COLUMN sha256 SET STATISTICS 0,
    ALTER COLUMN revised_prompt SET STATISTICS 0,
    ALTER COLUMN tags SET STATISTICS 0;
CREATE INDEX images_by_visibility ON images (visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_model ON images (model, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_owner ON images (owner_id, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_by_owner_and_model ON images (owner_id, model, visibility, id, kind) WHERE deleted_us IS NULL;
CREATE INDEX images_in_trash ON images (id, owner_id) WHERE deleted_us IS NOT NULL;
CREATE INDEX images_to_expire ON images (expires_us) WHERE expires_us IS NOT NULL AND deleted_us IS NULL;
CREATE INDEX images_by_digest ON images (substr(sha256, 1, 16)) WHERE deleted_us IS NULL;

CREATE TABLE settings (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

CREATE TABLE sessions (
    digest     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_id     TEXT COLLATE "C" NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    created_us BIGINT NOT NULL,
    seen_us    BIGINT NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_key ON sessions (key_id);

CREATE FUNCTION sessions_end_with_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sessions WHERE user_id = new.id;
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_end_with_user AFTER UPDATE OF disabled ON users FOR EACH ROW WHEN (new.disabled = 1)
EXECUTE FUNCTION sessions_end_with_user();

CREATE FUNCTION sessions_end_with_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sessions WHERE key_id = new.id;
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_end_with_key AFTER UPDATE OF revoked_us, user_id ON keys FOR EACH ROW
WHEN (new.revoked_us IS NOT NULL OR new.user_id <> old.user_id)
EXECUTE FUNCTION sessions_end_with_key();

CREATE TABLE states_to_write (
    request_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES requests (id),
    ticket     TEXT COLLATE "C" NOT NULL,
    purged     TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    is_doomed  SMALLINT NOT NULL DEFAULT 0 CHECK (is_doomed IN (0, 1))
);

CREATE TABLE deliveries (
    fingerprint  TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL REFERENCES requests (id),
    retry_count  BIGINT,
    attached_to  TEXT COLLATE "C",
    left_us      BIGINT,
    delivered_us BIGINT,
    CHECK (num_nonnulls(attached_to, left_us, delivered_us) = 1),
    PRIMARY KEY (fingerprint, request_id)
) WITH (fillfactor = 70);

CREATE TABLE refusals (
    shape       TEXT COLLATE "C" NOT NULL,
    retry_count BIGINT NOT NULL,
    request_id  TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C",
    refused_us  BIGINT NOT NULL,
    PRIMARY KEY (shape, retry_count, request_id)
);

ALTER TABLE deliveries ALTER COLUMN fingerprint SET STATISTICS 0;
ALTER TABLE refusals ALTER COLUMN fingerprint SET STATISTICS 0;

CREATE TABLE corrections (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id       TEXT COLLATE "C" REFERENCES users (id),
    key_id        TEXT COLLATE "C",
    request_id    TEXT COLLATE "C",
    change_micros BIGINT NOT NULL CHECK (change_micros <> 0),
    reason        TEXT COLLATE "C" NOT NULL,
    booked_us     BIGINT NOT NULL,
    created_us    BIGINT NOT NULL
);

ALTER TABLE corrections ALTER COLUMN reason SET STATISTICS 0;
CREATE INDEX corrections_by_user ON corrections (user_id, booked_us);
CREATE INDEX corrections_by_key ON corrections (key_id, booked_us);
CREATE INDEX corrections_by_time ON corrections (booked_us);

CREATE TABLE acts (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    actor_id     TEXT COLLATE "C",
    actor_key_id TEXT COLLATE "C",
    action       TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C",
    key_id       TEXT COLLATE "C",
    details      TEXT COLLATE "C" NOT NULL DEFAULT '{}'
);

ALTER TABLE acts ALTER COLUMN details SET STATISTICS 0;
CREATE INDEX acts_by_user ON acts (user_id, id);

CREATE TABLE shares (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    image_id     TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    digest       TEXT COLLATE "C" NOT NULL UNIQUE,
    password     TEXT COLLATE "C",
    shows_prompt SMALLINT NOT NULL DEFAULT 0 CHECK (shows_prompt IN (0, 1)),
    expires_us   BIGINT,
    revoked_us   BIGINT,
    views        BIGINT NOT NULL DEFAULT 0 CHECK (views >= 0)
);

CREATE INDEX shares_by_image ON shares (image_id, id);

CREATE FUNCTION shares_end_with_links() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shares SET revoked_us = CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT) * 1000
    WHERE image_id = new.id AND revoked_us IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER shares_end_with_links AFTER UPDATE OF link_epoch ON images FOR EACH ROW
WHEN (new.link_epoch <> old.link_epoch)
EXECUTE FUNCTION shares_end_with_links();

CREATE TABLE parents (
    request_id TEXT COLLATE "C" NOT NULL REFERENCES requests (id),
    parent_id  TEXT COLLATE "C" NOT NULL,
    position   BIGINT NOT NULL CHECK (position >= 0),
    PRIMARY KEY (request_id, parent_id)
);

CREATE INDEX parents_by_parent ON parents (parent_id, request_id);

CREATE TABLE image_tags (
    tag      TEXT COLLATE "C" NOT NULL,
    image_id TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, image_id)
);

ALTER TABLE image_tags ALTER COLUMN tag SET STATISTICS 0;
CREATE INDEX image_tags_by_image ON image_tags (image_id);

CREATE TABLE favorites (
    user_id  TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    image_id TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, image_id)
);

CREATE INDEX favorites_by_image ON favorites (image_id);

CREATE TABLE collections (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner_id   TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    name       TEXT COLLATE "C" NOT NULL,
    visibility TEXT COLLATE "C" NOT NULL CHECK (visibility IN ('private', 'team')),
    created_us BIGINT NOT NULL
);

ALTER TABLE collections ALTER COLUMN name SET STATISTICS 0;
CREATE INDEX collections_by_owner ON collections (owner_id, id);

CREATE TABLE collection_images (
    collection_id TEXT COLLATE "C" NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    image_id      TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (collection_id, image_id)
);

CREATE INDEX collection_images_by_image ON collection_images (image_id);
