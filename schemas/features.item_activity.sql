-- key: item_id, ds
-- written by: build_activity
-- clustered by: item_id, ds
CREATE TABLE IF NOT EXISTS features.item_activity (
  item_id STRING NOT NULL COMMENT 'the item',
  ds DATE NOT NULL COMMENT 'a UTC day on which the item was active; as-of D is the last row with ds <= D',
  impressions BIGINT NOT NULL COMMENT 'impressions up to and including ds',
  clicks BIGINT NOT NULL COMMENT 'clicks up to and including ds',
  carts BIGINT NOT NULL COMMENT 'carts up to and including ds',
  purchases BIGINT NOT NULL COMMENT 'purchases up to and including ds',
  active_days BIGINT NOT NULL COMMENT 'distinct active days up to and including ds',
  first_ds DATE NOT NULL COMMENT 'first active day',
  last_ds DATE NOT NULL COMMENT 'last active day, equal to ds'
) USING DELTA
COMMENT 'Sparse cumulative activity log of items: one row an active day'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.constraints.counts' = 'impressions >= 0 AND clicks >= 0 AND carts >= 0 AND purchases >= 0',
  'delta.constraints.last_is_ds' = 'last_ds = ds AND first_ds <= ds'
)
