-- The processes that share the index, on several hosts: see SQLite's 0014_processes.sql.
CREATE TABLE processes (
    id    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    spool TEXT COLLATE "C" NOT NULL,
    beats BIGINT NOT NULL CHECK (beats > 0)
);
