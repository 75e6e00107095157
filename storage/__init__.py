"""Content-addressed storage in CNCF Distribution's tree; see FORMAT.md for what is on disk."""
