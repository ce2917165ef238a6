-- key: run_id, variant, seed, step, metric
-- written by: train_ranker
CREATE TABLE IF NOT EXISTS training.curves (
  run_id STRING NOT NULL COMMENT 'the run that trained',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the run',
  step BIGINT NOT NULL COMMENT 'optimiser step, from 1',
  metric STRING NOT NULL COMMENT 'loss, transfer_item, transfer_user, orthogonality; at the end of an epoch validation_auc, samples_per_second, reader_wait (share of the time of its steps that was waited for samples) ...',
  value DOUBLE COMMENT 'mean over ranks'
) USING DELTA
COMMENT 'Loss curves'
LOCATION '${location}'
