-- key: idx
-- written by: build_samples
CREATE TABLE IF NOT EXISTS training.items (
  idx INT NOT NULL COMMENT 'features.item_index',
  item_id STRING NOT NULL COMMENT 'the item',
  impressions BIGINT NOT NULL COMMENT 'in the training period',
  clicks BIGINT NOT NULL COMMENT 'in the training period',
  segment STRING NOT NULL COMMENT 'head, tail or cold (no impressions) in the training period, by the configured threshold',
  role STRING NOT NULL COMMENT 'teacher, student or none in the asymmetric transfer',
  category INT NOT NULL COMMENT 'hashed leaf category, 0 when there is none: the key of category hard search',
  attributes ARRAY<INT> NOT NULL COMMENT 'hashed static attributes, fixed length, 0 for missing',
  activity ARRAY<FLOAT> NOT NULL COMMENT 'activity features as of the end of the training period (ACTIVITY_FEATURES of features/activity.py)',
  codes ARRAY<INT> COMMENT 'published semantic ID, null where there is none',
  codebook_version STRING COMMENT 'the codebook of the codes',
  other_codes MAP<STRING, ARRAY<INT>> COMMENT 'semantic IDs in the codebooks of samples.codebooks, by their names there; null where there is none',
  vector ARRAY<FLOAT> COMMENT 'aligned embedding, null where there is none'
) USING DELTA
COMMENT 'What the ranker looks up for every item, frozen at the end of the training period'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.enableDeletionVectors' = 'false',
  'delta.constraints.known_segment' = "segment IN ('head', 'tail', 'cold')",
  'delta.constraints.known_role' = "role IN ('teacher', 'student', 'none')"
)
