-- All calls of a process with smaller ids have left its spool: what storage has not got of them is nowhere. NULL: nobody
-- knows, for an older version beats.
ALTER TABLE processes ADD COLUMN home_before TEXT;
