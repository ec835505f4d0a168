-- Where each entry stands by its meaning, and what made the vectors: with another maker they are made anew.
CREATE TABLE vectors (
  serial INTEGER PRIMARY KEY AUTOINCREMENT,   -- grows with every change, so that a reader knows what is new to it
  entry INTEGER NOT NULL UNIQUE REFERENCES entries (id) ON DELETE CASCADE,
  vector BLOB NOT NULL                        -- float16, of length 1
) STRICT;
CREATE TABLE vectors_made (made TEXT NOT NULL) STRICT;

-- Entries whose vector is missing, or of other words.
CREATE TABLE vectors_due (entry INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE) STRICT;
INSERT INTO vectors_due SELECT id FROM entries;
CREATE TRIGGER vectors_due_new AFTER INSERT ON entries BEGIN
  INSERT OR IGNORE INTO vectors_due VALUES (new.id);
END;
CREATE TRIGGER vectors_due_again AFTER UPDATE OF title, abstract ON entries
WHEN old.title <> new.title OR old.abstract <> new.abstract BEGIN
  INSERT OR IGNORE INTO vectors_due VALUES (new.id);
END;

-- What the reader follows.
CREATE TABLE follows (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('question', 'author', 'room', 'paper', 'keywords')),
  query TEXT NOT NULL,
  since TEXT NOT NULL                         -- UTC, ISO: followed from then on
) STRICT;
