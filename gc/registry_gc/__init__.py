"""The collector: mark and sweep next to live pushes. Nothing here yet runs; deletes are made by the API."""
