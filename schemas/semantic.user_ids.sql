-- key: user_id, codebook_version
-- written by: build_semantic_ids
-- clustered by: codebook_version, sid
CREATE TABLE IF NOT EXISTS semantic.user_ids (
  user_id STRING NOT NULL COMMENT 'the user',
  codebook_version STRING NOT NULL COMMENT 'the codebook that assigned the ID (semantic.codebooks)',
  sid STRING NOT NULL COMMENT 'the semantic ID, for example 12-7-3; a prefix names a cluster',
  codes ARRAY<INT> NOT NULL COMMENT 'one code a level, each from 0',
  offset_codes ARRAY<INT> NOT NULL COMMENT 'codes with the sizes of the levels before added, unique over levels',
  distance FLOAT NOT NULL COMMENT 'squared distance of the latent to its quantised latent',
  margin FLOAT NOT NULL COMMENT '1 - d1 / d2 of the squared distances to the two nearest codes of level 1: 0 on a border, 1 at a code',
  content_hash STRING NOT NULL COMMENT 'hash of the content that was embedded',
  assigned_ds DATE NOT NULL COMMENT 'the day whose run assigned it'
) USING DELTA
COMMENT 'Semantic IDs of users; a published row never changes'
LOCATION '${location}'
