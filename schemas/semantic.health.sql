-- key: run_id, entity, metric, level
-- written by: build_semantic_ids
CREATE TABLE IF NOT EXISTS semantic.health (
  run_id STRING NOT NULL COMMENT 'the run that measured',
  ds DATE NOT NULL COMMENT 'its day',
  entity STRING NOT NULL COMMENT 'item or user',
  codebook_version STRING NOT NULL COMMENT 'the codebook measured',
  metric STRING NOT NULL COMMENT 'coverage, perplexity, collision, head_coverage, ...',
  level INT NOT NULL COMMENT 'prefix length or level from 1; 0 for measures of the whole ID',
  value DOUBLE COMMENT 'the measure'
) USING DELTA
COMMENT 'Health of semantic IDs, every run'
LOCATION '${location}'
