-- key: item_id, revision
-- written by: embed
-- clustered by: item_id
CREATE TABLE IF NOT EXISTS content.item_embeddings (
  item_id STRING NOT NULL COMMENT 'the item',
  revision STRING NOT NULL COMMENT 'the encoder revision that made the vector (content.encoders): raw, tuned or aligned',
  content_hash STRING NOT NULL COMMENT 'hash of the catalogue row that the encoder saw (bronze.items)',
  as_of DATE COMMENT 'last day whose events the encoder could know; null for raw encoders, which know none',
  image_missing BOOLEAN COMMENT 'true when the encoder was given no image',
  image_corrupt BOOLEAN COMMENT 'true when the image could not be decoded; the vector is of the text alone',
  n_tokens INT COMMENT 'text tokens the encoder read',
  truncated BOOLEAN COMMENT 'true when the text was longer than the encoder reads',
  error STRING COMMENT 'why there is no vector; null when there is one',
  vector ARRAY<FLOAT> COMMENT 'L2-normalised embedding'
) USING DELTA
COMMENT 'Embeddings of items by encoder revision'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.dataSkippingStatsColumns' = 'item_id,revision,content_hash',
  'delta.constraints.vector_or_error' = '(vector IS NULL) = (error IS NOT NULL)'
)
