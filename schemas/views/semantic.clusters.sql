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
    explode(transform(sequence(1, size(ids.codes)), n -> concat_ws('-', slice(ids.codes, 1, n)))) AS prefix,
    coalesce(frozen.segment, 'cold') AS segment,
    coalesce(frozen.role, 'none') AS role,
    coalesce(frozen.impressions, 0) AS impressions,
    coalesce(frozen.clicks, 0) AS clicks
  FROM semantic.item_ids AS ids
  JOIN semantic.codebooks AS book
    ON book.codebook_version = ids.codebook_version AND book.entity = 'item' AND book.status = 'published'
  LEFT JOIN training.items AS frozen ON frozen.item_id = ids.item_id
)
GROUP BY prefix
