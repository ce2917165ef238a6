CREATE OR REPLACE VIEW semantic.nightly_health
COMMENT 'Health of published semantic IDs, one row a day, entity, metric and level: the newest run of the day, beside its controls' AS
SELECT
  ds,
  entity,
  metric,
  level,
  max(codebook_version) AS codebook_version,
  max(CASE WHEN control = 'none' THEN value END) AS value,
  max(CASE WHEN control = 'random' THEN value END) AS random,
  max(CASE WHEN control = 'category' THEN value END) AS category
FROM (
  SELECT
    health.*,
    dense_rank() OVER (PARTITION BY health.ds, health.entity ORDER BY health.run_id DESC, book.promoted_at) AS newest
  FROM semantic.health AS health
  JOIN semantic.codebooks AS book
    ON book.codebook_version = health.codebook_version AND book.entity = health.entity
   AND book.status IN ('published', 'retired')
)
WHERE newest = 1
GROUP BY ds, entity, metric, level
