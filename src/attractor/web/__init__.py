"""The page: served, or built as static files."""
