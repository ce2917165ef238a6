-- key: revision, chosen_at
-- written by: align_encoder
CREATE TABLE IF NOT EXISTS content.encoders (
  revision STRING NOT NULL COMMENT 'changes when anything changes that changes a vector',
  entity STRING NOT NULL COMMENT 'item or user',
  stage STRING NOT NULL COMMENT 'raw (as the family ships it), tuned (its weights adapted to pairs of items) or aligned (projection on either)',
  family STRING NOT NULL COMMENT 'encoder family, a key of the registry',
  base_revision STRING COMMENT 'the revision whose vectors this encoder takes as input, or (tuned) whose weights it adapts; null for raw encoders',
  path STRING COMMENT 'folder with the trained weights; null for raw encoders that ship with their package',
  dim INT NOT NULL COMMENT 'length of a vector',
  trained_until DATE COMMENT 'last day whose events were used in training; null when none were',
  config_hash STRING NOT NULL COMMENT 'hash of the configuration that made it',
  metrics MAP<STRING, DOUBLE> COMMENT 'measures on held-out data of the training period: recall_raw, recall_head (tuned: the head alone), recall_aligned; pair coverage: coverage_ and items_ with head, mid (neither teacher nor student) and tail; users: recall_interest of the next click, recall_mean_pooled of their clicks, variance_ratio against items, and of a prompt model also recall_transformer and variance_ratio_transformer of the transformer trained beside it',
  ds DATE NOT NULL COMMENT 'the day whose run chose it; a run may choose one that an earlier day trained',
  status STRING NOT NULL COMMENT 'registered, or rejected by its gate',
  chosen_at TIMESTAMP NOT NULL COMMENT 'when that run wrote this row, UTC: the newest row of the newest day is in use'
) USING DELTA
COMMENT 'Which encoder each day used: one row for every time that a run chose, or rejected, one'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.known_entity' = "entity IN ('item', 'user')",
  'delta.constraints.known_stage' = "stage IN ('raw', 'tuned', 'aligned')",
  'delta.constraints.known_status' = "status IN ('registered', 'rejected')"
)
