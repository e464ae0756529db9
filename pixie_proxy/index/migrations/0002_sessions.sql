-- Who is signed in with a browser. A session lives as long as its key does; the cookie itself is nowhere.
CREATE TABLE sessions (
    digest     TEXT   NOT NULL PRIMARY KEY, -- SHA-256 of the cookie in hex
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_id     TEXT   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    created_us BIGINT NOT NULL,
    seen_us    BIGINT NOT NULL -- the last use, noted once an hour at most
) WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_key ON sessions (key_id);

-- Whoever disables a user or revokes a key, the command line too, ends the sessions with it: a user who is let in again
-- must not find the old ones alive.
CREATE TRIGGER sessions_end_with_user AFTER UPDATE OF disabled ON users WHEN new.disabled = 1
BEGIN
    DELETE FROM sessions WHERE user_id = new.id;
END;

CREATE TRIGGER sessions_end_with_key AFTER UPDATE OF revoked_us, user_id ON keys
WHEN new.revoked_us IS NOT NULL OR new.user_id <> old.user_id
BEGIN
    DELETE FROM sessions WHERE key_id = new.id;
END;
