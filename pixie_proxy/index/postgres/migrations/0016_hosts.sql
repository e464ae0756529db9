-- Which calls of a process have left its spool, and wrong keys of all processes: see SQLite's 0016_hosts.sql.
ALTER TABLE processes ADD COLUMN home_before TEXT COLLATE "C";

CREATE TABLE attempts (
    subject TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tat_us  BIGINT           NOT NULL CHECK (tat_us >= 0)
);
