-- What was spent by user, key, model and day is summed from this alone: the ledger's own rows are wide.
CREATE INDEX requests_by_time ON requests
    (created_us, user_id, key_id, model, state, images_asked, cost_micros, hold_micros);
