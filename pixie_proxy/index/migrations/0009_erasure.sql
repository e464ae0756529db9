-- A user who was deleted stays as a row without a name, for the ledger. `deleted_us`: from then on nothing of it is shown;
-- `erased_us`: from then on nothing of it is there. What lies between the two is gone on with after a crash.
ALTER TABLE users ADD COLUMN deleted_us BIGINT;
ALTER TABLE users ADD COLUMN erased_us BIGINT;
CREATE INDEX users_deleted ON users (id) WHERE deleted_us IS NOT NULL;
