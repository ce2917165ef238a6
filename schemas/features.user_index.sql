-- key: user_id
-- written by: ingest
CREATE TABLE IF NOT EXISTS features.user_index (
  user_id STRING NOT NULL COMMENT 'the user',
  idx INT NOT NULL COMMENT 'dense, stable, append-only; 0 is padding and unknown and never stored'
) USING DELTA
COMMENT 'Dense integer of every user, for embedding tables'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.positive' = 'idx > 0')
