-- key: request_id, user_id, item_id, event_time
-- written by: score
-- clustered by: request_id, user_id
CREATE TABLE IF NOT EXISTS serving.scores (
  request_id STRING NOT NULL COMMENT 'the request: the same one again replaces its rows',
  user_id STRING NOT NULL COMMENT 'as asked',
  item_id STRING NOT NULL COMMENT 'as asked',
  event_time TIMESTAMP NOT NULL COMMENT 'as asked, UTC: nothing at or after it was seen',
  user_idx INT NOT NULL COMMENT 'features.user_index, 0 for a user that the ranker does not know',
  item_idx INT NOT NULL COMMENT 'features.item_index, 0 for an item that the ranker does not know',
  score FLOAT NOT NULL COMMENT 'predicted click probability',
  run_id STRING NOT NULL COMMENT 'the run that trained the ranker',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the ranker'
) USING DELTA
COMMENT 'Scores of the pairs that people asked for (docs/serving.md)'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.probability' = 'score >= 0 AND score <= 1')
