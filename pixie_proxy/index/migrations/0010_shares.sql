-- Links to a page with one image, for people without an account. The token in the address is nowhere: only its digest.
CREATE TABLE shares (
    id           TEXT     NOT NULL PRIMARY KEY,
    image_id     TEXT     NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    digest       TEXT     NOT NULL UNIQUE, -- SHA-256 of the token in hex
    password     TEXT,                     -- scrypt's, with its salt; NULL: none is asked for
    shows_prompt SMALLINT NOT NULL DEFAULT 0 CHECK (shows_prompt IN (0, 1)),
    expires_us   BIGINT,
    revoked_us   BIGINT,
    views        BIGINT   NOT NULL DEFAULT 0 CHECK (views >= 0)
) WITHOUT ROWID;

CREATE INDEX shares_by_image ON shares (image_id, id);

-- Whatever ends the links of an image ends its shares: deletion, narrowing, `revoke_url`, retention. An image that is
-- taken out of the trash again does not bring them back.
CREATE TRIGGER shares_end_with_links AFTER UPDATE OF link_epoch ON images WHEN new.link_epoch <> old.link_epoch
BEGIN
    UPDATE shares SET revoked_us = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000
    WHERE image_id = new.id AND revoked_us IS NULL;
END;

-- Beside the foreign key, which connections of commands do not watch.
CREATE TRIGGER shares_go_with_image AFTER DELETE ON images
BEGIN
    DELETE FROM shares WHERE image_id = old.id;
END;
