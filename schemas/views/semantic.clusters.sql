CREATE OR REPLACE VIEW semantic.clusters
COMMENT 'Clusters of items: one row a prefix of the published semantic IDs, counted in the training period' AS
SELECT
  prefix,
  size(split(prefix, '-')) AS level,
  count(*) AS members,
  count_if(segment = 'head') AS heads,
  count_if(segment = 'tail') AS tails,
  count_if(segment = 'cold') AS colds,
  count_if(role = 'teacher') AS teachers,
  sum(impressions) AS impressions,
  sum(clicks) AS clicks
FROM (
  SELECT
    explode(transform(sequence(1, size(codes)), n -> concat_ws('-', slice(codes, 1, n)))) AS prefix,
    segment, role, impressions, clicks
  FROM training.items
  WHERE codes IS NOT NULL
)
GROUP BY prefix
