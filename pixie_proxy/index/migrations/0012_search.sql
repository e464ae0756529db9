-- What images are found by: `words` are those of the prompt and of what became of it, a space before each. `key` grows as
-- the id does, so that a search walks along the list's own order. `search.fill` enters the images that there are.
-- `list` is who may see it: 0 private, 1 team, 2 public, 3 in the trash; `owner` a number made of the owner's id. Every
-- word is indexed twice, behind a character of the list and behind one of the list of this owner: a search walks along
-- one of these, and reads nothing of what its viewer may not see.
CREATE TABLE searchable (
    key      INTEGER NOT NULL PRIMARY KEY,
    image_id TEXT    NOT NULL UNIQUE,
    list     INTEGER NOT NULL,
    owner    INTEGER NOT NULL,
    words    TEXT    NOT NULL,
    indexed  TEXT    GENERATED ALWAYS AS (
        replace(words, ' ', ' ' || char(0xE000 + list)) || replace(words, ' ', ' ' || char(0xF0000 + owner * 4 + list))
    ) VIRTUAL
);

-- A prefix of up to three letters behind its character is an entry of its own.
CREATE VIRTUAL TABLE search USING fts5 (
    indexed, content = '', columnsize = 0, tokenize = 'ascii', prefix = '2 3 4'
);

CREATE TRIGGER search_gains AFTER INSERT ON searchable
BEGIN
    INSERT INTO search (rowid, indexed) VALUES (new.key, new.indexed);
END;

CREATE TRIGGER search_loses AFTER DELETE ON searchable
BEGIN
    INSERT INTO search (search, rowid, indexed) VALUES ('delete', old.key, old.indexed);
END;

CREATE TRIGGER search_follows AFTER UPDATE ON searchable
BEGIN
    INSERT INTO search (search, rowid, indexed) VALUES ('delete', old.key, old.indexed);
    INSERT INTO search (rowid, indexed) VALUES (new.key, new.indexed);
END;

-- Who changes or removes an image, in whatever way, need not think of the search.
CREATE TRIGGER searchable_follows AFTER UPDATE OF visibility, deleted_us ON images
WHEN new.visibility <> old.visibility OR (new.deleted_us IS NULL) <> (old.deleted_us IS NULL)
BEGIN
    UPDATE searchable SET list = CASE
        WHEN new.deleted_us IS NOT NULL THEN 3
        WHEN new.visibility = 'private' THEN 0
        WHEN new.visibility = 'team' THEN 1
        ELSE 2
    END
    WHERE image_id = new.id;
END;

CREATE TRIGGER searchable_goes AFTER DELETE ON images
BEGIN
    DELETE FROM searchable WHERE image_id = old.id;
END;
