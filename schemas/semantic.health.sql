-- key: run_id, entity, codebook_version, metric, level, control
-- written by: build_semantic_ids
CREATE TABLE IF NOT EXISTS semantic.health (
  run_id STRING NOT NULL COMMENT 'the run that measured',
  ds DATE NOT NULL COMMENT 'its day',
  entity STRING NOT NULL COMMENT 'item or user',
  codebook_version STRING NOT NULL COMMENT 'the codebook measured; where a candidate is refused or waits, that and the published one',
  metric STRING NOT NULL COMMENT 'coverage, perplexity, aliasing, co_occurrence_recall, ... (docs/semantic_health.md)',
  level INT NOT NULL COMMENT 'prefix length or level from 1; 0 for measures of the whole ID',
  control STRING NOT NULL COMMENT 'none: of the codebook itself; random: of its IDs permuted among the ids; category: of the category path as ID',
  value DOUBLE COMMENT 'the measure; null where it is not defined'
) USING DELTA
COMMENT 'Health of semantic IDs, every run, beside two controls'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.known_control' = "control IN ('none', 'random', 'category')"
)
