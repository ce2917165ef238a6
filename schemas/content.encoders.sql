-- key: revision
-- written by: align_encoder
CREATE TABLE IF NOT EXISTS content.encoders (
  revision STRING NOT NULL COMMENT 'changes when anything changes that changes a vector',
  entity STRING NOT NULL COMMENT 'item or user',
  stage STRING NOT NULL COMMENT 'raw (as the family ships it) or aligned (trained on collaborative pairs)',
  family STRING NOT NULL COMMENT 'encoder family, a key of the registry',
  base_revision STRING COMMENT 'the revision whose vectors this encoder takes as input; null for raw encoders',
  path STRING COMMENT 'folder with the trained weights; null for raw encoders that ship with their package',
  dim INT NOT NULL COMMENT 'length of a vector',
  trained_until DATE COMMENT 'last day whose events were used in training; null when none were',
  config_hash STRING NOT NULL COMMENT 'hash of the configuration that made it',
  metrics MAP<STRING, DOUBLE> COMMENT 'measures before and after alignment on held-out pairs of the training period',
  ds DATE NOT NULL COMMENT 'the day whose run registered it',
  status STRING NOT NULL COMMENT 'registered, or rejected by its gate'
) USING DELTA
COMMENT 'Registered encoders'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.known_status' = "status IN ('registered', 'rejected')")
