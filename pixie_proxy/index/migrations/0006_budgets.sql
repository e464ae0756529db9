-- Limits of a key, as those of a user.
ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';

CREATE INDEX requests_by_key ON requests (key_id, id);

-- Ledger entries that an admin made. The old rows stay as they are: what was spent is both together. Without a user an
-- entry is the team's alone; key_id and request_id have no foreign keys, as in `requests`.
CREATE TABLE corrections (
    id            TEXT   NOT NULL PRIMARY KEY,
    user_id       TEXT   REFERENCES users (id),
    key_id        TEXT,
    request_id    TEXT,
    change_micros BIGINT NOT NULL CHECK (change_micros <> 0),
    reason        TEXT   NOT NULL,
    booked_us     BIGINT NOT NULL, -- the moment whose day and month it counts in
    created_us    BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX corrections_by_user ON corrections (user_id, booked_us);
CREATE INDEX corrections_by_key ON corrections (key_id, booked_us);
CREATE INDEX corrections_by_time ON corrections (booked_us);

-- Each key and the team have accounts from now on, as each user has: for what there is, they are the ledger's sums.
-- An account without a day or month looks both up in the ledger at its next use.
ALTER TABLE accounts ADD COLUMN images_day BIGINT NOT NULL DEFAULT 0 CHECK (images_day >= 0);
UPDATE accounts SET day = '', spent_day_micros = 0, month = '', spent_month_micros = 0;
INSERT INTO accounts (subject, in_flight, held_micros, spent_life_micros)
    SELECT key_id,
        sum(CASE WHEN state IN ('admitted', 'sent') THEN 1 ELSE 0 END),
        sum(CASE WHEN state IN ('admitted', 'sent') THEN hold_micros ELSE 0 END),
        sum(CASE WHEN state IN ('admitted', 'sent') THEN 0 ELSE coalesce(cost_micros, 0) END)
    FROM requests WHERE key_id IS NOT NULL GROUP BY key_id;
INSERT INTO accounts (subject, in_flight, held_micros, spent_life_micros)
    SELECT 'team',
        coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN 1 ELSE 0 END), 0),
        coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN hold_micros ELSE 0 END), 0),
        coalesce(sum(CASE WHEN state IN ('admitted', 'sent') THEN 0 ELSE coalesce(cost_micros, 0) END), 0)
    FROM requests;
