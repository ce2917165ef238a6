-- key: entity, from_version, to_version, id, ds
-- written by: build_semantic_ids
-- clustered by: entity, to_version
CREATE TABLE IF NOT EXISTS semantic.churn (
  entity STRING NOT NULL COMMENT 'item or user',
  from_version STRING NOT NULL COMMENT 'the codebook compared with; the same as to_version where changed content moved an ID',
  to_version STRING NOT NULL COMMENT 'the codebook that gives another ID',
  id STRING NOT NULL COMMENT 'the item or user',
  old_sid STRING NOT NULL COMMENT 'its ID in from_version',
  new_sid STRING NOT NULL COMMENT 'its ID in to_version',
  depth INT NOT NULL COMMENT 'first level, from 1, at which the two differ: 1 is another cluster altogether',
  segment STRING COMMENT 'head, tail or cold in the training period; null for an id without an index',
  reason STRING NOT NULL COMMENT 'content changed, encoder changed, or moved cell (only the codebook is another)',
  ds DATE NOT NULL COMMENT 'the day of the run that compared'
) USING DELTA
COMMENT 'Every ID that a codebook changes, beside the one that was published when they were compared'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.known_entity' = "entity IN ('item', 'user')",
  'delta.constraints.known_reason' = "reason IN ('content changed', 'encoder changed', 'moved cell')"
)
