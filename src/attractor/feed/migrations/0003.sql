-- Who gets the digest. Who left is forgotten: in place of the address stays its hash, so that a confirmation link from
-- before the leaving is refused.
CREATE TABLE subscribers (
  id INTEGER PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,          -- or "sha256:…" of who left
  every TEXT NOT NULL CHECK (every IN ('daily', 'weekly')),
  zone TEXT NOT NULL,                  -- IANA time zone
  hour INTEGER NOT NULL CHECK (hour BETWEEN 0 AND 23),
  quiet INTEGER NOT NULL,              -- 1: no mail where nothing is new
  asked REAL NOT NULL,                 -- when the link that was confirmed last was made, seconds since 1970
  confirmed TEXT NOT NULL,             -- UTC, ISO
  since TEXT NOT NULL,                 -- what came in before has been told
  gone REAL                            -- when they left, seconds since 1970
) STRICT;

CREATE TABLE subscriptions (
  subscriber INTEGER NOT NULL REFERENCES subscribers (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  follow TEXT NOT NULL,                -- its name; one that is removed later is passed over
  PRIMARY KEY (subscriber, follow)
) STRICT, WITHOUT ROWID;

-- Every digest, written down before it is handed over and after: a row a subscriber and period.
CREATE TABLE sends (
  subscriber INTEGER NOT NULL REFERENCES subscribers (id) ON DELETE CASCADE,
  period TEXT NOT NULL,                -- "2026-01-05", or "2026-W02"
  state TEXT NOT NULL CHECK (state IN ('sending', 'sent', 'nothing', 'deferred', 'refused', 'unknown')),
  message_id TEXT NOT NULL,
  papers TEXT NOT NULL,                -- JSON: the uids it tells of
  tries INTEGER NOT NULL DEFAULT 1,
  begun TEXT NOT NULL,
  ended TEXT,
  answer TEXT NOT NULL DEFAULT '',     -- what the server said
  PRIMARY KEY (subscriber, period)
) STRICT, WITHOUT ROWID;

-- Confirmations that were mailed, by the address's hash: so many a day and no more.
CREATE TABLE asked (
  mark TEXT NOT NULL,
  at REAL NOT NULL
) STRICT;
CREATE INDEX asked_mark ON asked (mark, at);
