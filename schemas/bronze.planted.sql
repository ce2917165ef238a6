-- key: entity, id
-- written by: ingest
CREATE TABLE IF NOT EXISTS bronze.planted (
  entity STRING NOT NULL COMMENT 'item or user',
  id STRING NOT NULL COMMENT 'an id with more than 30 exposures in the training period',
  exposures BIGINT NOT NULL COMMENT 'how many it has, those with ids of the other kind that may be cut not counted',
  tenth INT NOT NULL COMMENT 'of these ids, by exposures, from 1 for the least shown; the same number of ids keeps each count in every tenth',
  kept INT COMMENT 'exposures that it keeps: 0, 3, 9 or 30; null for a control, which could have been chosen and was not'
) USING DELTA
COMMENT 'The planted tail (docs/experiments.md): ids whose training events are cut, and their controls; absent where planted.share is 0'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.known_entity' = "entity IN ('item', 'user')"
)
