-- key: user_id, revision
-- written by: embed
-- clustered by: user_id
CREATE TABLE IF NOT EXISTS content.user_embeddings (
  user_id STRING NOT NULL COMMENT 'the user',
  revision STRING NOT NULL COMMENT 'the user encoder that made the vector (content.encoders)',
  content_hash STRING NOT NULL COMMENT 'hash of the history and profile that the encoder saw',
  as_of DATE NOT NULL COMMENT 'last day whose clicks the history could hold',
  clicks INT NOT NULL COMMENT 'clicks in that history; 0: the vector is of the profile alone',
  error STRING COMMENT 'why there is no vector; null when there is one',
  vector ARRAY<FLOAT> COMMENT 'L2-normalised embedding'
) USING DELTA
COMMENT 'Embeddings of users by encoder revision'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.dataSkippingStatsColumns' = 'user_id,revision,content_hash',
  'delta.constraints.vector_or_error' = '(vector IS NULL) = (error IS NOT NULL)'
)
