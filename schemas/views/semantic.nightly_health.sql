CREATE OR REPLACE VIEW semantic.nightly_health
COMMENT 'Health of semantic IDs, one row a day, entity, metric and level: the newest run of the day, beside its controls' AS
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
    dense_rank() OVER (PARTITION BY ds, entity ORDER BY run_id DESC) AS newest
  FROM semantic.health AS health
)
WHERE newest = 1
GROUP BY ds, entity, metric, level
