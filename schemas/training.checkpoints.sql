-- key: run_id, variant, seed
-- written by: train_ranker
CREATE TABLE IF NOT EXISTS training.checkpoints (
  run_id STRING NOT NULL COMMENT 'the run that trained it',
  variant STRING NOT NULL COMMENT 'name under ranker.variants',
  seed INT NOT NULL COMMENT 'random seed of the run',
  step BIGINT NOT NULL COMMENT 'optimiser steps taken',
  epoch INT NOT NULL COMMENT 'epochs of the kept weights (best on validation)',
  path STRING NOT NULL COMMENT 'folder of the kept weights',
  samples_version BIGINT NOT NULL COMMENT 'Delta version of training.samples',
  items_version BIGINT NOT NULL COMMENT 'Delta version of training.items',
  users_version BIGINT NOT NULL COMMENT 'Delta version of training.users',
  config_hash STRING NOT NULL COMMENT 'hash of the model and training configuration',
  parameters BIGINT NOT NULL COMMENT 'trainable parameters',
  samples BIGINT NOT NULL COMMENT 'training samples taken in all epochs, by all ranks together',
  seconds DOUBLE NOT NULL COMMENT 'wall time of training, validation included',
  peak_gib DOUBLE NOT NULL COMMENT 'most memory of a rank (the first) during this training, GiB',
  metrics MAP<STRING, DOUBLE> COMMENT 'validation measures of the kept epoch; reader_wait: share of the time of all steps that was waited for samples'
) USING DELTA
COMMENT 'Finished trainings'
LOCATION '${location}'
