-- Which images were sent along with a call, as far as they were ours and its caller might see them then. Ids only, in the
-- order in which they were sent: an image may be purged before what was made of it.
CREATE TABLE parents (
    request_id TEXT   NOT NULL REFERENCES requests (id),
    parent_id  TEXT   NOT NULL,
    position   BIGINT NOT NULL CHECK (position >= 0),
    PRIMARY KEY (request_id, parent_id)
) WITHOUT ROWID;

CREATE INDEX parents_by_parent ON parents (parent_id, request_id);

-- An image that comes back to be edited is known by its digest. 64 of its bits find it: the whole text would make this
-- the largest index that there is.
CREATE INDEX images_by_digest ON images (substr(sha256, 1, 16)) WHERE deleted_us IS NULL;

-- The tags of an image are its row's (JSON, in order), as all that state.json repeats; to find images by one there is a row
-- for each, along which a list walks in the order of the images' ids.
ALTER TABLE images ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
CREATE TABLE image_tags (
    tag      TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, image_id)
) WITHOUT ROWID;

CREATE INDEX image_tags_by_image ON image_tags (image_id);

-- What somebody likes is nobody else's business, and is in no file in storage.
CREATE TABLE favorites (
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, image_id)
) WITHOUT ROWID;

CREATE INDEX favorites_by_image ON favorites (image_id);

-- Named sets of images. What is in one is seen by those who may see the image, whoever may see the collection.
CREATE TABLE collections (
    id         TEXT   NOT NULL PRIMARY KEY,
    owner_id   TEXT   NOT NULL REFERENCES users (id),
    name       TEXT   NOT NULL,
    visibility TEXT   NOT NULL CHECK (visibility IN ('private', 'team')),
    created_us BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX collections_by_owner ON collections (owner_id, id);

CREATE TABLE collection_images (
    collection_id TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    image_id      TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (collection_id, image_id)
) WITHOUT ROWID;

CREATE INDEX collection_images_by_image ON collection_images (image_id);
