-- key: event_id
-- written by: ingest
-- clustered by: ds, item_id, user_id
CREATE TABLE IF NOT EXISTS bronze.events (
  event_id STRING NOT NULL COMMENT 'hash of the content where the source has no id of its own, so that loading a file twice adds nothing',
  user_id STRING NOT NULL COMMENT 'who acted',
  item_id STRING NOT NULL COMMENT 'on which item',
  event_type STRING NOT NULL COMMENT 'impression, click, cart or purchase',
  event_time TIMESTAMP NOT NULL COMMENT 'when, UTC',
  event_order BIGINT COMMENT 'order among events of one user with equal event_time, where the source knows it; else null',
  value DOUBLE COMMENT 'rating, price paid or dwell time, as the source gives it',
  ds DATE NOT NULL COMMENT 'UTC day of event_time'
) USING DELTA
COMMENT 'Every accepted event, once'
LOCATION '${location}'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.known_type' = "event_type IN ('impression', 'click', 'cart', 'purchase')"
)
