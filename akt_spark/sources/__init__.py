"""Raw data to bronze: one module a source, and the ingest stage that checks what they read."""
