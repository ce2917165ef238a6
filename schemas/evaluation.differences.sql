-- key: run_id, variant, reference, slice, metric
-- written by: evaluate
CREATE TABLE IF NOT EXISTS evaluation.differences (
  run_id STRING NOT NULL COMMENT 'the run that was evaluated',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  reference STRING NOT NULL COMMENT 'the variant it is compared with',
  slice STRING NOT NULL COMMENT 'all, item_tail, user_cold, ... (evaluation/slices.py)',
  metric STRING NOT NULL COMMENT 'auc, gauc_impr, gauc_user or logloss',
  difference DOUBLE NOT NULL COMMENT 'variant minus reference, mean over the seeds that both have',
  lower DOUBLE COMMENT '2.5th percentile over resampled users; null with too few users',
  upper DOUBLE COMMENT '97.5th percentile over resampled users; null with too few users',
  ratio DOUBLE COMMENT 'variant / reference - 1',
  rela_impr DOUBLE COMMENT '(AUC - 0.5) / (reference AUC - 0.5) - 1; null for log loss',
  seeds INT NOT NULL COMMENT 'seeds compared',
  wins INT NOT NULL COMMENT 'seeds in which the variant is better',
  seed_sd DOUBLE COMMENT 'standard deviation of the difference over seeds; null with one seed',
  users BIGINT NOT NULL COMMENT 'users behind the metric (for GAUC: with both classes)',
  resamples INT NOT NULL COMMENT 'resamples of users behind the interval',
  p DOUBLE COMMENT 'two-sided p-value of no difference, by the spread over resampled users; null with too few users',
  p_holm DOUBLE COMMENT 'the same, by Holm for all variants and slices of one family (FAMILIES of evaluation/slices.py) that are compared with the reference by the metric'
) USING DELTA
COMMENT 'Paired differences between variants with 95 % intervals from a bootstrap of users'
LOCATION '${location}'
