-- Which calls of a process have left its spool: see SQLite's 0016_homes.sql.
ALTER TABLE processes ADD COLUMN home_before TEXT COLLATE "C";
