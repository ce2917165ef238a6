CREATE OR REPLACE VIEW features.item_segments
COMMENT 'Activity of items today, with their segment and role in the training period' AS
SELECT
  latest.*,
  (latest.clicks + 1) / (latest.impressions + 20) AS smoothed_ctr,
  ntile(10) OVER (ORDER BY latest.impressions, latest.item_id) AS impression_decile,
  frozen.segment,
  frozen.role
FROM (
  SELECT item_id, newest.*
  FROM (
    SELECT
      item_id,
      max_by(struct(impressions, clicks, carts, purchases, active_days, first_ds, last_ds), ds) AS newest
    FROM features.item_activity
    GROUP BY item_id
  )
) AS latest
LEFT JOIN training.items AS frozen ON frozen.item_id = latest.item_id
