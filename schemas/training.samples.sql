-- key: sample_id
-- written by: build_samples
CREATE TABLE IF NOT EXISTS training.samples (
  sample_id STRING NOT NULL COMMENT 'event_id of the impression or positive; for a drawn negative a hash of that of its positive and the draw number',
  split STRING NOT NULL COMMENT 'train, validation or test, by global time',
  day DATE NOT NULL COMMENT 'UTC day of that event',
  label FLOAT NOT NULL COMMENT '1 for a clicked impression or a positive; 0 for an impression without click or a drawn negative',
  user_idx INT NOT NULL COMMENT 'features.user_index',
  item_idx INT NOT NULL COMMENT 'features.item_index',
  history_length INT NOT NULL COMMENT 'entries of history that are not padding',
  history ARRAY<INT> NOT NULL COMMENT 'item_idx of the newest positive events strictly before the event, newest first, padded with 0 to features.sequence_length',
  user_activity ARRAY<FLOAT> NOT NULL COMMENT 'activity features of the user from days strictly before that day',
  item_activity ARRAY<FLOAT> NOT NULL COMMENT 'activity features of the item from days strictly before that day'
) USING DELTA
COMMENT 'Training samples. No deletion vectors, no column mapping, no partitions, one split a file: a Parquet reader sees exactly the rows of a pinned version'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.enableDeletionVectors' = 'false',
  'delta.constraints.known_split' = "split IN ('train', 'validation', 'test')",
  'delta.constraints.binary_label' = 'label IN (0, 1)'
)
