-- key: item_id
-- written by: ingest
CREATE TABLE IF NOT EXISTS features.item_index (
  item_id STRING NOT NULL COMMENT 'the item',
  idx INT NOT NULL COMMENT 'dense, stable, append-only; 0 is padding and unknown and never stored'
) USING DELTA
COMMENT 'Dense integer of every item, for embedding tables'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.positive' = 'idx > 0')
