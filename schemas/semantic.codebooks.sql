-- key: entity, codebook_version
-- written by: build_semantic_ids
CREATE TABLE IF NOT EXISTS semantic.codebooks (
  entity STRING NOT NULL COMMENT 'item or user',
  codebook_version STRING NOT NULL COMMENT 'day of the fit and hash of the fitted model',
  quantizer STRING NOT NULL COMMENT 'rqvae, ...',
  sizes ARRAY<INT> NOT NULL COMMENT 'codes a level',
  path STRING NOT NULL COMMENT 'folder of the fitted quantiser',
  encoder_revision STRING NOT NULL COMMENT 'the embeddings it was fitted on (content.encoders)',
  config_hash STRING NOT NULL COMMENT 'hash of the configuration that made it',
  status STRING NOT NULL COMMENT 'candidate, published or retired',
  fitted_ds DATE NOT NULL COMMENT 'the day whose run fitted it',
  metrics MAP<STRING, DOUBLE> COMMENT 'measures of the fit, and of its agreement with the codebook published then',
  promoted_at TIMESTAMP COMMENT 'when it was published last; null for one that never was',
  rolled_back_at TIMESTAMP COMMENT 'when it was rolled back; no night publishes it again, only a person does'
) USING DELTA
COMMENT 'Fitted codebooks; one published version an entity'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.known_entity' = "entity IN ('item', 'user')",
  'delta.constraints.known_status' = "status IN ('candidate', 'published', 'retired')"
)
