-- key: user_id
-- written by: ingest
CREATE TABLE IF NOT EXISTS bronze.users (
  user_id STRING NOT NULL COMMENT 'the id in the click log',
  profile MAP<STRING, STRING> COMMENT 'static profile attributes; empty where the source has none'
) USING DELTA
COMMENT 'Every user of the log, one row a user'
LOCATION '${location}'
