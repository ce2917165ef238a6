-- key: item_id, positive_id
-- written by: align_encoder
CREATE TABLE IF NOT EXISTS content.item_pairs (
  item_id STRING NOT NULL COMMENT 'anchor',
  positive_id STRING NOT NULL COMMENT 'an item that the same users clicked, or bought, close to it',
  together BIGINT NOT NULL COMMENT 'how many times, over users, kinds (clicks with clicks, purchases with purchases) and within the configured time gap',
  score DOUBLE NOT NULL COMMENT 'popularity-debiased, shrunk lift (method.md 2.1)',
  held_out BOOLEAN NOT NULL COMMENT 'kept from training, to measure recall'
) USING DELTA
COMMENT 'Pairs of items of the training period, by co-click and co-purchase'
LOCATION '${location}'
