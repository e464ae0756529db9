-- The newest schema that a process knows: see SQLite's 0015_versions.sql.
ALTER TABLE processes ADD COLUMN schema BIGINT NOT NULL DEFAULT 0;
