-- key: run_id, variant, seed, sample_id
-- written by: score
-- clustered by: run_id, item_idx
CREATE TABLE IF NOT EXISTS serving.predictions (
  run_id STRING NOT NULL COMMENT 'the run that trained the model',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the model',
  sample_id STRING NOT NULL COMMENT 'training.samples',
  user_idx INT NOT NULL COMMENT 'features.user_index',
  item_idx INT NOT NULL COMMENT 'features.item_index',
  label FLOAT NOT NULL COMMENT 'clicked or not',
  score FLOAT NOT NULL COMMENT 'predicted click probability'
) USING DELTA
COMMENT 'Predictions for the test period'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.probability' = 'score >= 0 AND score <= 1')
