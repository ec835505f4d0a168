"""The page: the catalogue, what was measured, and the feed, served or as static files."""
