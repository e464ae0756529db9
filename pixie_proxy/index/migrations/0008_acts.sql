-- What admins did, by whom and to whom. Ids only: a name is looked up when it is shown, so it goes with its user.
CREATE TABLE acts (
    id       TEXT NOT NULL PRIMARY KEY,
    actor_id TEXT,          -- NULL: the command line, or the settings
    actor_key_id TEXT,
    action   TEXT NOT NULL,
    user_id  TEXT,          -- whom or whose key it is about
    key_id   TEXT,
    details  TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;

CREATE INDEX acts_by_user ON acts (user_id, id);

-- A key that was rotated has two texts for a while: the new one, and the old one until then. It stays the same key, with
-- its account, so that no rotation gives a second budget.
ALTER TABLE keys ADD COLUMN retired_digest TEXT;
ALTER TABLE keys ADD COLUMN retired_until_us BIGINT;
CREATE UNIQUE INDEX keys_by_retired_digest ON keys (retired_digest) WHERE retired_digest IS NOT NULL;
-- JSON: the only models that this key may use; empty = all that anyone may.
ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
