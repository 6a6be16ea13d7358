-- What a wave needs: its state, its plan, its members, what stopped a node; holds and outcomes of builds.

ALTER TABLE wave_node ADD COLUMN added TEXT;
ALTER TABLE wave_node ADD COLUMN failed TEXT;
ALTER TABLE wave_node ADD COLUMN late INTEGER;
ALTER TABLE wave_node ADD COLUMN held TEXT;
ALTER TABLE wave_node ADD COLUMN skipped TEXT;

CREATE TABLE wave (
  id            TEXT NOT NULL PRIMARY KEY,
  env           TEXT NOT NULL,
  kind          TEXT NOT NULL,
  start         TEXT NOT NULL,
  change        TEXT NOT NULL,
  promote       INTEGER NOT NULL,
  opened        INTEGER NOT NULL,
  state         TEXT NOT NULL,
  since         INTEGER NOT NULL,
  plan          TEXT,
  nodes         INTEGER NOT NULL,
  pending_on    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX wave_by_time ON wave (opened, id);

-- Of one wave there may be several plans: the one that the wave names counts (H16).
CREATE TABLE wave_plan (
  wave          TEXT NOT NULL,
  plan          TEXT NOT NULL,
  package       TEXT NOT NULL,
  json          TEXT NOT NULL,
  PRIMARY KEY (wave, plan, package)
) STRICT, WITHOUT ROWID;

CREATE TABLE wave_member (
  wave          TEXT NOT NULL,
  change        TEXT NOT NULL,
  cause         TEXT NOT NULL,
  PRIMARY KEY (wave, change)
) STRICT, WITHOUT ROWID;

-- The wave that collects publishes of an environment, or did last (H22).
CREATE TABLE collecting (
  env           TEXT NOT NULL PRIMARY KEY,
  wave          TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
  package       TEXT NOT NULL,
  id            TEXT NOT NULL,
  parent        TEXT,
  owner         TEXT NOT NULL,
  reason        TEXT NOT NULL,
  placed        INTEGER NOT NULL,
  expires       INTEGER,
  ended         INTEGER,
  PRIMARY KEY (package, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hold_on ON hold (package, id) WHERE ended IS NULL;

-- What builds came to. The digest of all of it tells apart what was told in the same millisecond.
CREATE TABLE outcome (
  name          TEXT NOT NULL,
  version       TEXT NOT NULL,
  env           TEXT NOT NULL,
  at            INTEGER NOT NULL,
  digest        TEXT NOT NULL,
  ok            INTEGER NOT NULL,
  message       TEXT,
  PRIMARY KEY (name, version, env, at, digest)
) STRICT;

CREATE INDEX outcome_by_time ON outcome (at);
