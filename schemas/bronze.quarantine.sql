-- key: run_id, source, row_json, reason
-- written by: ingest
CREATE TABLE IF NOT EXISTS bronze.quarantine (
  source STRING NOT NULL COMMENT 'events, items or users; requests, candidates or users of a request (docs/serving.md); or the table whose row is of no use',
  reason STRING NOT NULL COMMENT 'why the row was rejected, with the value that was wrong',
  row_json STRING NOT NULL COMMENT 'the raw row as it was read',
  ds DATE NOT NULL COMMENT 'the day whose run rejected it, or whose ranker the request asked',
  run_id STRING NOT NULL COMMENT 'the run, or the request, that rejected it'
) USING DELTA
COMMENT 'Every rejected row with its reason'
LOCATION '${location}'
