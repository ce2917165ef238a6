-- key: run_id, stage, started_at
-- written by: every job
CREATE TABLE IF NOT EXISTS ops.runs (
  run_id STRING NOT NULL COMMENT 'the closed day: a rerun of the same night has the same id',
  stage STRING NOT NULL COMMENT 'the stage',
  ds DATE NOT NULL COMMENT 'the closed day',
  status STRING NOT NULL COMMENT 'done, skipped or failed',
  fingerprint STRING NOT NULL COMMENT 'hash of inputs, configuration and code: equal means nothing to do',
  code_revision STRING NOT NULL COMMENT 'hash of the package source',
  config STRING NOT NULL COMMENT 'resolved configuration as JSON',
  inputs MAP<STRING, BIGINT> COMMENT 'versions of the tables read',
  outputs MAP<STRING, BIGINT> COMMENT 'versions of the tables written',
  rows_in BIGINT NOT NULL COMMENT 'rows of the main inputs',
  rows_out BIGINT NOT NULL COMMENT 'rows of the main outputs',
  quarantined BIGINT NOT NULL COMMENT 'rows rejected',
  seconds DOUBLE NOT NULL COMMENT 'wall time',
  notes ARRAY<STRING> COMMENT 'the summary a person reads',
  error STRING COMMENT 'why it failed',
  started_at TIMESTAMP NOT NULL COMMENT 'when the stage started, UTC'
) USING DELTA
COMMENT 'What every stage of every run did'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.known_status' = "status IN ('done', 'skipped', 'failed')")
