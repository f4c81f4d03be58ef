-- AUTOINCREMENT: a position is never used twice, so that a reader who pages misses nothing.
CREATE TABLE tasks (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL,
    user_id TEXT,
    organization_id TEXT,
    added_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
