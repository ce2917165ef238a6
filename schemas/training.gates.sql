-- key: run_id, variant, seed, entity, impressions_from
-- written by: train_ranker
CREATE TABLE IF NOT EXISTS training.gates (
  run_id STRING NOT NULL COMMENT 'the run that trained',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the run',
  entity STRING NOT NULL COMMENT 'item or user',
  impressions_from BIGINT NOT NULL COMMENT 'ids with at least this many training impressions ...',
  impressions_to BIGINT NOT NULL COMMENT '... and fewer than this',
  ids BIGINT NOT NULL COMMENT 'ids in this bin',
  mean DOUBLE NOT NULL COMMENT 'mean gate r: the weight of the cluster part of the embedding',
  p10 DOUBLE NOT NULL COMMENT '10th percentile of r',
  p90 DOUBLE NOT NULL COMMENT '90th percentile of r'
) USING DELTA
COMMENT 'The activity gate of trained models against activity'
LOCATION '${location}'
