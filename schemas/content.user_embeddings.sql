-- key: user_id, revision
-- written by: embed
CREATE TABLE IF NOT EXISTS content.user_embeddings (
  user_id STRING NOT NULL COMMENT 'the user',
  revision STRING NOT NULL COMMENT 'the encoder revision that made the vector (content.encoders)',
  content_hash STRING NOT NULL COMMENT 'hash of what the encoder saw',
  as_of DATE NOT NULL COMMENT 'last day whose events the encoder or its input could know',
  image_missing BOOLEAN COMMENT 'true when there was no image',
  image_corrupt BOOLEAN COMMENT 'true when the image could not be decoded; the vector is of the text alone',
  n_tokens INT COMMENT 'text tokens the encoder read',
  truncated BOOLEAN COMMENT 'true when the text was longer than the encoder reads',
  error STRING COMMENT 'why there is no vector; null when there is one',
  vector ARRAY<FLOAT> COMMENT 'L2-normalised embedding'
) USING DELTA
COMMENT 'Embeddings of users by encoder revision'
LOCATION '${location}'
