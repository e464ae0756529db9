-- The processes that share the index, where they may run on several hosts. `beats` grows while one lives.
CREATE TABLE processes (
    id    TEXT   NOT NULL PRIMARY KEY,
    spool TEXT   NOT NULL,
    beats BIGINT NOT NULL CHECK (beats > 0)
);
