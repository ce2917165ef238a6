-- key: item_id
-- written by: ingest
CREATE TABLE IF NOT EXISTS bronze.items (
  item_id STRING NOT NULL COMMENT 'the catalogue id',
  title STRING NOT NULL COMMENT 'what a shopper reads first',
  description STRING COMMENT 'longer text',
  category ARRAY<STRING> COMMENT 'category path, widest first (for films: the genres)',
  brand STRING COMMENT 'brand or maker',
  price DOUBLE COMMENT 'list price in the currency of the shop',
  attributes MAP<STRING, STRING> COMMENT 'everything else the catalogue says',
  image BINARY COMMENT 'encoded photo (JPEG, PNG ...), null when there is none',
  first_seen DATE COMMENT 'the day from which the item could be shown, where the catalogue knows it',
  content_hash STRING NOT NULL COMMENT 'hash of everything an encoder can see; an embedding is stale when it differs'
) USING DELTA
COMMENT 'The item catalogue, one row an item'
LOCATION '${location}'
