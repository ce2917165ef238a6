-- key: revision
-- written by: embed
CREATE TABLE IF NOT EXISTS content.raw_encoders (
  revision STRING NOT NULL COMMENT 'a raw revision of content.item_embeddings',
  family STRING NOT NULL COMMENT 'encoder family, a key of the registry',
  dim INT NOT NULL COMMENT 'length of a vector',
  spec STRING NOT NULL COMMENT 'JSON of all that a vector depends on: model, prompt, pixel budget and so on',
  ds DATE NOT NULL COMMENT 'the day whose run was the first to use it'
) USING DELTA
COMMENT 'What each raw revision is made of: a run that differs from it is refused'
LOCATION '${location}'
