-- What the thumbnail worker found when it looked at an image: a WebP of 16 pixels to stand in its place while it loads, and
-- whether it moves. Both are NULL until then; an image that can't be decoded stays without a placeholder.
ALTER TABLE images ADD COLUMN placeholder BLOB;
ALTER TABLE images ADD COLUMN is_animated SMALLINT CHECK (is_animated IN (0, 1));
