-- All calls of a process with smaller ids have left its spool: what storage has not got of them is nowhere. NULL: nobody
-- knows, for an older version beats.
ALTER TABLE processes ADD COLUMN home_before TEXT;

-- Buckets of wrong keys and passwords, of all processes. `subject` is a digest: of an address, of a link's id.
CREATE TABLE attempts (
    subject TEXT   NOT NULL PRIMARY KEY,
    tat_us  BIGINT NOT NULL CHECK (tat_us >= 0)
);
