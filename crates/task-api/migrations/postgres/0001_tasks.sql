-- Positions are given out under a lock that ends with the transaction: their order is the order of commits.
CREATE TABLE tasks (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task TEXT NOT NULL,
    user_id TEXT,
    organization_id TEXT,
    added_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
