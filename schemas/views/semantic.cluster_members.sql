CREATE OR REPLACE VIEW semantic.cluster_members
COMMENT 'Items of every cluster: one row an item and prefix of its published semantic ID, counted in the training period' AS
SELECT
  coded.prefix,
  coded.level,
  coded.item_id,
  catalogue.title,
  array_join(catalogue.category, ' / ') AS category,
  catalogue.brand,
  catalogue.price,
  coded.segment,
  coded.role,
  coded.impressions,
  coded.clicks,
  ids.sid,
  ids.margin,
  ids.assigned_ds
FROM (
  SELECT
    item_id, level, array_join(slice(codes, 1, level), '-') AS prefix, segment, role, impressions, clicks
  FROM (
    SELECT item_id, codes, explode(sequence(1, size(codes))) AS level, segment, role, impressions, clicks
    FROM training.items
    WHERE codes IS NOT NULL
  )
) AS coded
JOIN bronze.items AS catalogue ON catalogue.item_id = coded.item_id
JOIN semantic.item_ids AS ids ON ids.item_id = coded.item_id
JOIN semantic.codebooks AS book
  ON book.codebook_version = ids.codebook_version AND book.entity = 'item' AND book.status = 'published'
