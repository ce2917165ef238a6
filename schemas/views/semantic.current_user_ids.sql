CREATE OR REPLACE VIEW semantic.current_user_ids
COMMENT 'Semantic IDs of users by the published codebook' AS
SELECT ids.*
FROM semantic.user_ids AS ids
JOIN semantic.codebooks AS book
  ON book.codebook_version = ids.codebook_version AND book.entity = 'user' AND book.status = 'published'
