-- The calls that a retry may still take over, each until 15 minutes after its client left, or some seconds after it was
-- served. Calls with an Idempotency-Key are found by that and are not in here. Small rows in a small table: the ledger's
-- own are wide, and are not written again for this.
CREATE TABLE deliveries (
    fingerprint  TEXT   NOT NULL,
    request_id   TEXT   NOT NULL REFERENCES requests (id),
    retry_count  BIGINT,                -- of the client's SDK, at the attempt that has the call now; NULL if it told none
    attached_to  TEXT,                  -- the process whose client waits for the answer
    left_us      BIGINT,                -- when the client went before the whole answer was handed over
    delivered_us BIGINT,                -- when the whole answer was handed over
    CHECK ((attached_to IS NOT NULL) + (left_us IS NOT NULL) + (delivered_us IS NOT NULL) = 1),
    PRIMARY KEY (fingerprint, request_id)
) WITHOUT ROWID;

-- Attempts that ended with a refusal, ours or the upstream's: their retries are new calls. `shape` is user, kind and
-- length of the body, which is all that is known of a call refused before its body was read.
CREATE TABLE refusals (
    shape       TEXT   NOT NULL,
    retry_count BIGINT NOT NULL,
    request_id  TEXT   NOT NULL, -- the refused one's, which is in no ledger
    fingerprint TEXT,
    refused_us  BIGINT NOT NULL,
    PRIMARY KEY (shape, retry_count, request_id)
) WITHOUT ROWID;

DROP INDEX requests_by_fingerprint;
ALTER TABLE requests DROP COLUMN is_delivered;
