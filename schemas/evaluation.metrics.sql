-- key: run_id, variant, seed, slice, metric
-- written by: evaluate
CREATE TABLE IF NOT EXISTS evaluation.metrics (
  run_id STRING NOT NULL COMMENT 'the run that was evaluated',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the model',
  slice STRING NOT NULL COMMENT 'all, item_tail, user_cold, ... (evaluation/slices.py)',
  metric STRING NOT NULL COMMENT 'auc, gauc_impr, gauc_user, logloss, ... (evaluation/metrics.py)',
  value DOUBLE COMMENT 'null where the metric is undefined, for example AUC of one class',
  n BIGINT NOT NULL COMMENT 'rows (for GAUC: impressions of users with both classes)',
  stderr DOUBLE COMMENT 'standard error where a formula is known'
) USING DELTA
COMMENT 'Every metric of every variant, seed and slice'
LOCATION '${location}'
