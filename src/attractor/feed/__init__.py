"""Papers that come in: from where, stored once each, placed among what runs here, followed, and sent."""

from attractor.feed.entry import Entry, merged, normal_title
from attractor.feed.library import Added, Library, Stored

__all__ = ["Added", "Entry", "Library", "Stored", "merged", "normal_title"]
