-- Folders in storage that do not say yet what the index says: their state.json is to be written, or files of images
-- that were purged are to go. `ticket` changes with every change, so that one which comes meanwhile is not missed.
CREATE TABLE states_to_write (
    request_id TEXT     NOT NULL PRIMARY KEY REFERENCES requests (id),
    ticket     TEXT     NOT NULL,
    purged     TEXT     NOT NULL DEFAULT '{}', -- JSON: image id → its file, for images whose rows are gone
    is_doomed  SMALLINT NOT NULL DEFAULT 0 CHECK (is_doomed IN (0, 1)) -- every image is purged: the folder goes
) WITHOUT ROWID;
