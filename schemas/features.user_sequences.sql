-- key: user_id
-- written by: build_sequences
-- clustered by: user_id
CREATE TABLE IF NOT EXISTS features.user_sequences (
  user_id STRING NOT NULL COMMENT 'the user',
  as_of DATE NOT NULL COMMENT 'UTC day of the newest of these events',
  length INT NOT NULL COMMENT 'number of events kept, at most features.sequence_length',
  items ARRAY<STRING> NOT NULL COMMENT 'item ids, newest first',
  event_types ARRAY<STRING> NOT NULL COMMENT 'event types, newest first',
  event_times ARRAY<TIMESTAMP> NOT NULL COMMENT 'event times, newest first',
  event_orders ARRAY<BIGINT> NOT NULL COMMENT 'order among equal event times, null where the source knows none (such an event counts as the newest)',
  event_ids ARRAY<STRING> NOT NULL COMMENT 'keys in bronze.events, newest first'
) USING DELTA
COMMENT 'The newest events of every user'
LOCATION '${location}'
TBLPROPERTIES ('delta.constraints.same_length' = 'size(items) = length AND size(event_types) = length AND size(event_times) = length')
