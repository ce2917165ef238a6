CREATE OR REPLACE VIEW features.user_segments
COMMENT 'Activity of users today, with their segment and role in the training period; smoothed_ctr by the prior of the newest samples' AS
SELECT
  latest.*,
  (latest.clicks + prior.ctr * prior.weight) / (latest.impressions + prior.weight) AS smoothed_ctr,
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
CROSS JOIN (
  SELECT
    CAST(get_json_object(newest, '$.features.ctr_prior') AS DOUBLE) AS ctr,
    CAST(get_json_object(newest, '$.features.ctr_prior_weight') AS DOUBLE) AS weight
  FROM (SELECT max_by(config, started_at) AS newest FROM ops.runs WHERE stage = 'build_samples' AND status = 'done')
) AS prior
LEFT JOIN training.users AS frozen ON frozen.user_id = latest.user_id
