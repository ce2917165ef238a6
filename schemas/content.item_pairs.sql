-- key: item_id, positive_id
-- written by: align_encoder
CREATE TABLE IF NOT EXISTS content.item_pairs (
  item_id STRING NOT NULL COMMENT 'anchor',
  positive_id STRING NOT NULL COMMENT 'an item clicked with it by the same users',
  together BIGINT NOT NULL COMMENT 'how many times, over users and within the configured time gap',
  score DOUBLE NOT NULL COMMENT 'popularity-debiased, shrunk lift (method.md 2.1)',
  held_out BOOLEAN NOT NULL COMMENT 'kept from training, to measure recall'
) USING DELTA
COMMENT 'Co-click pairs of the training period'
LOCATION '${location}'
