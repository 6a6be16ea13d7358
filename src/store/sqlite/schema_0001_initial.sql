-- The tables of protocol.md, as they are in Cassandra: the first columns of a primary key are the partition, the rest
-- the clustering key. WITHOUT ROWID keeps a partition together on disk. Tables of documents are ordinary ones instead:
-- there the key lives in an index of its own, so that looking a document up, or passing it by, does not read the others.
-- Times are milliseconds since 1970, stamps microseconds. Sets, maps and lists are JSON text.

-- A package's partition (protocol.md, pkg). `seq` counts the batches that decided about it.
CREATE TABLE pkg (
  name          TEXT NOT NULL PRIMARY KEY,
  seq           INTEGER NOT NULL,
  stamp         INTEGER NOT NULL,
  head_version  TEXT,
  head_born     INTEGER,
  dependent_of  TEXT
) STRICT, WITHOUT ROWID;

-- Its highest published version and what that declares; apart, because every batch rewrites the row above.
CREATE TABLE pkg_top (
  name          TEXT NOT NULL PRIMARY KEY,
  version       TEXT NOT NULL,
  origin        TEXT,
  edges         TEXT NOT NULL
) STRICT;

-- Its reservations that are not published yet (H11).
CREATE TABLE pkg_open (
  name          TEXT NOT NULL,
  wave          TEXT NOT NULL,
  version       TEXT NOT NULL,
  PRIMARY KEY (name, wave)
) STRICT, WITHOUT ROWID;

-- Its versions: slot '' is the publish, else an environment.
CREATE TABLE pkg_row (
  name          TEXT NOT NULL,
  version       TEXT NOT NULL,
  slot          TEXT NOT NULL,
  born          INTEGER NOT NULL,
  -- facts of a published version
  published     INTEGER NOT NULL DEFAULT 0,
  noticed       INTEGER,
  notice        TEXT,
  digest        TEXT,
  tag           TEXT,
  origin        TEXT,
  previous      TEXT,
  tarball_of    TEXT,
  stamp         INTEGER,
  dropped       TEXT,
  took_place    TEXT,
  built_with    TEXT,
  attach        TEXT,
  attach_stamp  INTEGER,
  -- the rebuild that made it or sent it
  rebuild           TEXT,
  state             TEXT,
  generation        INTEGER,
  waves             TEXT,
  change            TEXT,
  decision          TEXT,
  place             INTEGER,
  base              TEXT,
  base_origin       TEXT,
  base_tarball_of   TEXT,
  cause             TEXT,
  rebuild_with      TEXT,
  promote           INTEGER,
  attempt           INTEGER,
  tries             INTEGER,
  owner             TEXT,
  due               INTEGER,
  ended_because     TEXT,
  confirmed_by      TEXT,
  PRIMARY KEY (name, version, slot)
) STRICT, WITHOUT ROWID;

-- All that other packages' decisions ask about a package's versions, without reading the rows.
CREATE INDEX pkg_published ON pkg_row (name, version, origin, tag) WHERE published = 1 AND slot = '';

-- Which versions cannot be given out any more, likewise (rule 9).
CREATE INDEX pkg_taken ON pkg_row (name, version) WHERE slot = '';

-- Whose turn it is to be sent (rule 10).
CREATE INDEX pkg_queued ON pkg_row (name, slot, place) WHERE state = 'queued';

-- The highest version that declares a range, per parent (H21).
CREATE TABLE pkg_edge (
  name          TEXT NOT NULL,
  parent        TEXT NOT NULL,
  range         TEXT NOT NULL,
  version       TEXT NOT NULL,
  PRIMARY KEY (name, parent, range)
) STRICT, WITHOUT ROWID;

-- The version attached to a parent's line (H15).
CREATE TABLE pkg_attached (
  name            TEXT NOT NULL,
  parent          TEXT NOT NULL,
  parent_version  TEXT NOT NULL,
  version         TEXT NOT NULL,
  PRIMARY KEY (name, parent, parent_version)
) STRICT, WITHOUT ROWID;

-- Manifests, by digest: another document of the same version does not overwrite the first (H19).
CREATE TABLE manifest (
  name          TEXT NOT NULL,
  version       TEXT NOT NULL,
  digest        TEXT NOT NULL,
  json          BLOB NOT NULL,
  PRIMARY KEY (name, version, digest)
) STRICT;

CREATE TABLE document (
  change        TEXT NOT NULL,
  digest        TEXT NOT NULL,
  json          BLOB NOT NULL,
  PRIMARY KEY (change, digest)
) STRICT;

CREATE TABLE change (
  id              TEXT NOT NULL PRIMARY KEY,
  kind            TEXT NOT NULL,
  env             TEXT NOT NULL,
  name            TEXT NOT NULL,
  version         TEXT NOT NULL,
  tag             TEXT,
  promote         INTEGER NOT NULL,
  digest          TEXT NOT NULL,
  idempotency_key TEXT,
  accepted        INTEGER NOT NULL,
  planned         TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX change_by_time ON change (accepted, id);

-- version is '' for a decision that sends nothing.
CREATE TABLE decision (
  change        TEXT NOT NULL,
  wave          TEXT NOT NULL,
  dependent     TEXT NOT NULL,
  version       TEXT NOT NULL,
  json          TEXT NOT NULL,
  PRIMARY KEY (change, wave, dependent, version)
) STRICT, WITHOUT ROWID;

-- Projections: written with the stamp of the batch that decided them (H19). The tables and columns from dependent_of
-- on are the warehouse's (contract.md 3.1).
CREATE TABLE dependents (
  parent        TEXT NOT NULL,
  dependent     TEXT NOT NULL,
  top           TEXT NOT NULL,
  range         TEXT,
  stamp         INTEGER NOT NULL,
  PRIMARY KEY (parent, dependent)
) STRICT, WITHOUT ROWID;

CREATE TABLE dependents_old (
  parent        TEXT NOT NULL,
  dependent     TEXT NOT NULL,
  range         TEXT NOT NULL,
  version       TEXT NOT NULL,
  stamp         INTEGER NOT NULL,
  PRIMARY KEY (parent, dependent, range)
) STRICT, WITHOUT ROWID;

-- dependent_of stays, empty, when it is removed: the row's stamp keeps an older write from bringing it back.
CREATE TABLE dependent_of (
  pkg           TEXT NOT NULL PRIMARY KEY,
  dependent_of  TEXT,
  stamp         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE release_line (
  pkg               TEXT NOT NULL,
  version           TEXT NOT NULL,
  previous_version  TEXT,
  stamp             INTEGER NOT NULL,
  PRIMARY KEY (pkg, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE release_line_head (
  pkg               TEXT NOT NULL PRIMARY KEY,
  version           TEXT NOT NULL,
  previous_version  TEXT,
  stamp             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE release_line_dep (
  pkg               TEXT NOT NULL,
  version           TEXT NOT NULL,
  dependent         TEXT NOT NULL,
  dependent_version TEXT NOT NULL,
  stamp             INTEGER NOT NULL,
  PRIMARY KEY (pkg, version, dependent)
) STRICT, WITHOUT ROWID;

-- version is '' in a publish wave.
CREATE TABLE wave_node (
  wave          TEXT NOT NULL,
  package       TEXT NOT NULL,
  version       TEXT NOT NULL,
  released      TEXT,
  published     TEXT,
  PRIMARY KEY (wave, package, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE promotion (
  name          TEXT NOT NULL,
  env           TEXT NOT NULL,
  generation    INTEGER NOT NULL,
  version       TEXT NOT NULL,
  promote       INTEGER NOT NULL,
  change        TEXT NOT NULL,
  at            INTEGER NOT NULL,
  PRIMARY KEY (name, env, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE promotion_entry (
  name              TEXT NOT NULL,
  version           TEXT NOT NULL,
  env               TEXT NOT NULL,
  generation        INTEGER NOT NULL,
  dependent         TEXT NOT NULL,
  dependent_version TEXT NOT NULL,
  PRIMARY KEY (name, version, env, generation, dependent)
) STRICT, WITHOUT ROWID;

CREATE TABLE rebuild (
  id            TEXT NOT NULL PRIMARY KEY,
  name          TEXT NOT NULL,
  version       TEXT NOT NULL,
  slot          TEXT NOT NULL,
  generation    INTEGER NOT NULL,
  change        TEXT NOT NULL,
  decided       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
  rebuild           TEXT NOT NULL,
  number            INTEGER NOT NULL,
  started           INTEGER NOT NULL,
  ended             INTEGER NOT NULL,
  owner             TEXT NOT NULL,
  outcome           TEXT NOT NULL,
  neighbour         TEXT NOT NULL,
  may_have_reached  INTEGER NOT NULL,
  status            INTEGER,
  message           TEXT NOT NULL,
  PRIMARY KEY (rebuild, number)
) STRICT, WITHOUT ROWID;

-- What is promised and not done; what is done is gone, so that starting up reads only what is left.
CREATE TABLE work (
  shard         INTEGER NOT NULL,
  id            TEXT NOT NULL,
  package       TEXT NOT NULL,
  due           INTEGER NOT NULL,
  job           TEXT NOT NULL,
  PRIMARY KEY (shard, id)
) STRICT, WITHOUT ROWID;

-- Written by `check`: that the file can be written is only known by writing it.
CREATE TABLE probe (
  one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  count         INTEGER NOT NULL
) STRICT;
