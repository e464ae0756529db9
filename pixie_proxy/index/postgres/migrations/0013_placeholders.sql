-- What the thumbnail worker found when it looked at an image: see SQLite's 0013_placeholders.sql.
ALTER TABLE images
    ADD COLUMN placeholder BYTEA,
    ADD COLUMN is_animated SMALLINT CHECK (is_animated IN (0, 1)),
    ALTER COLUMN placeholder SET STATISTICS 0;
