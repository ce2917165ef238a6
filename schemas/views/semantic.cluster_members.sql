CREATE OR REPLACE VIEW semantic.cluster_members
COMMENT 'Items of every cluster: one row an item and prefix of its published semantic ID, counted in the training period' AS
SELECT
  array_join(slice(ids.codes, 1, ids.level), '-') AS prefix,
  ids.level,
  ids.item_id,
  catalogue.title,
  array_join(catalogue.category, ' / ') AS category,
  catalogue.brand,
  catalogue.price,
  coalesce(frozen.segment, 'cold') AS segment,
  coalesce(frozen.role, 'none') AS role,
  coalesce(frozen.impressions, 0) AS impressions,
  coalesce(frozen.clicks, 0) AS clicks,
  ids.sid,
  ids.margin,
  ids.assigned_ds
FROM (
  SELECT item_id, codebook_version, sid, codes, margin, assigned_ds, explode(sequence(1, size(codes))) AS level
  FROM semantic.item_ids
) AS ids
JOIN semantic.codebooks AS book
  ON book.codebook_version = ids.codebook_version AND book.entity = 'item' AND book.status = 'published'
LEFT JOIN bronze.items AS catalogue ON catalogue.item_id = ids.item_id
LEFT JOIN training.items AS frozen ON frozen.item_id = ids.item_id
