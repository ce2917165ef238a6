CREATE OR REPLACE VIEW semantic.current_item_ids
COMMENT 'Semantic IDs of items by the published codebook' AS
SELECT ids.*
FROM semantic.item_ids AS ids
JOIN semantic.codebooks AS book
  ON book.codebook_version = ids.codebook_version AND book.entity = 'item' AND book.status = 'published'
