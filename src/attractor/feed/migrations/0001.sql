-- What came in: a row a paper, whoever told of it.
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,            -- of the first telling, and kept: feeds' ids hang on it
  arxiv TEXT UNIQUE,
  version INTEGER,
  doi TEXT UNIQUE,
  title TEXT NOT NULL,
  abstract TEXT NOT NULL,
  authors TEXT NOT NULL,               -- JSON array, as are the categories
  categories TEXT NOT NULL,
  published TEXT,                      -- ISO day
  link TEXT NOT NULL,
  slug TEXT,                           -- of the catalogue, where the paper stands there
  added TEXT NOT NULL,                 -- UTC, ISO, of the first telling
  changed TEXT NOT NULL                -- UTC, ISO, of the last telling that said something new
) STRICT;
CREATE INDEX entries_added ON entries (added);

-- By what tellings it is recognized: "arxiv:…", "doi:…", "title:…". A title belongs to the paper that had it first.
CREATE TABLE names (
  name TEXT PRIMARY KEY,
  entry INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX names_entry ON names (entry);

-- Who told of it, on which day, with how many votes: what is trending, and where from.
CREATE TABLE sightings (
  entry INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  source TEXT NOT NULL,
  day TEXT NOT NULL,
  votes INTEGER,
  PRIMARY KEY (entry, source, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX sightings_day ON sightings (day);

-- What the reader said of it: 1 kept, -1 dismissed.
CREATE TABLE opinions (
  entry INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
  opinion INTEGER NOT NULL CHECK (opinion IN (-1, 1)),
  at TEXT NOT NULL
) STRICT;

-- How each source fared, and where to go on.
CREATE TABLE sources (
  name TEXT PRIMARY KEY,
  state TEXT NOT NULL DEFAULT '{}',    -- JSON: etag, last_modified, cursor: the source's own
  status TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'ok', 'partial', 'empty', 'failed')),
  message TEXT NOT NULL DEFAULT '',
  tried TEXT,
  succeeded TEXT
) STRICT;

CREATE VIRTUAL TABLE entries_text USING fts5 (
  title, abstract, authors, content = 'entries', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER entries_inserted AFTER INSERT ON entries BEGIN
  INSERT INTO entries_text (rowid, title, abstract, authors) VALUES (new.id, new.title, new.abstract, new.authors);
END;
CREATE TRIGGER entries_deleted AFTER DELETE ON entries BEGIN
  INSERT INTO entries_text (entries_text, rowid, title, abstract, authors)
  VALUES ('delete', old.id, old.title, old.abstract, old.authors);
END;
CREATE TRIGGER entries_updated AFTER UPDATE OF title, abstract, authors ON entries BEGIN
  INSERT INTO entries_text (entries_text, rowid, title, abstract, authors)
  VALUES ('delete', old.id, old.title, old.abstract, old.authors);
  INSERT INTO entries_text (rowid, title, abstract, authors) VALUES (new.id, new.title, new.abstract, new.authors);
END;
