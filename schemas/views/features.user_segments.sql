CREATE OR REPLACE VIEW features.user_segments
COMMENT 'Activity of users today, with their segment and role in the training period' AS
SELECT
  latest.*,
  (latest.clicks + 1) / (latest.impressions + 20) AS smoothed_ctr,
  ntile(10) OVER (ORDER BY latest.impressions, latest.user_id) AS impression_decile,
  frozen.segment,
  frozen.role
FROM (
  SELECT user_id, newest.*
  FROM (
    SELECT
      user_id,
      max_by(struct(impressions, clicks, carts, purchases, active_days, first_ds, last_ds), ds) AS newest
    FROM features.user_activity
    GROUP BY user_id
  )
) AS latest
LEFT JOIN training.users AS frozen ON frozen.user_id = latest.user_id
