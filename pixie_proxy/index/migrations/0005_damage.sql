-- What `pixie verify` found wrong with an image's bytes, in words, and when: such bytes are never served.
ALTER TABLE images ADD COLUMN damage TEXT;
ALTER TABLE images ADD COLUMN damaged_us BIGINT;
