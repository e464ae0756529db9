-- What images are found by: see SQLite's 0012_search.sql, of which this has the columns that are not FTS5's own. Beside the
-- words there are two entries for who may see an image: the list, and the list of this owner.
CREATE TABLE searchable (
    image_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    list     INTEGER NOT NULL,
    owner    INTEGER NOT NULL,
    words    TEXT COLLATE "C" NOT NULL,
    entries  TSVECTOR NOT NULL GENERATED ALWAYS AS (
        array_to_tsvector(
            array_remove(string_to_array(words, ' '), '') || chr(57344 + list) || chr(983040 + owner * 4 + list)
        )
    ) STORED
);

ALTER TABLE searchable ALTER COLUMN words SET STATISTICS 0, ALTER COLUMN entries SET STATISTICS 0;

-- Without a list of what is pending: a search would have to read it.
CREATE INDEX search ON searchable USING gin (entries) WITH (fastupdate = off);

-- Who changes an image, in whatever way, need not think of the search.
CREATE FUNCTION searchable_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE searchable SET list = CASE
        WHEN new.deleted_us IS NOT NULL THEN 3
        WHEN new.visibility = 'private' THEN 0
        WHEN new.visibility = 'team' THEN 1
        ELSE 2
    END
    WHERE image_id = new.id;
    RETURN NULL;
END $$;
CREATE TRIGGER searchable_follows AFTER UPDATE OF visibility, deleted_us ON images FOR EACH ROW
WHEN (new.visibility <> old.visibility OR (new.deleted_us IS NULL) <> (old.deleted_us IS NULL))
EXECUTE FUNCTION searchable_follows();
