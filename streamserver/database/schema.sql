-- State of one stream server. Migration 1; later ones are migration_NNNN.sql beside this file.
-- Times are Unix times; digests and keys are raw bytes.

CREATE TABLE server (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    name        TEXT NOT NULL,               -- what clients show for this server
    generation  INTEGER NOT NULL,            -- grows with every change that anybody's publishing could show
    created     INTEGER NOT NULL             -- seconds
) STRICT;

CREATE TABLE publisher (                     -- keys whose packages are accepted
    public_key  BLOB PRIMARY KEY CHECK (length(public_key) = 32),   -- Ed25519
    name        TEXT NOT NULL,
    added       INTEGER NOT NULL             -- seconds
) STRICT;

CREATE TABLE account (                       -- local users
    id            BLOB PRIMARY KEY CHECK (length(id) = 16),  -- random: a name given again is another person
    name          TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,             -- argon2id, PHC string
    tokens_from   INTEGER NOT NULL,          -- milliseconds: tokens issued before are void
    added         INTEGER NOT NULL           -- seconds
) STRICT;

CREATE TABLE user_group (                    -- groups hold users, never groups
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    added INTEGER NOT NULL                   -- seconds
) STRICT;

CREATE TABLE membership (
    account_id BLOB    NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    group_id   INTEGER NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    PRIMARY KEY (account_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_by_group ON membership (group_id);

CREATE TABLE package (                       -- one row for each imported version
    version_id         BLOB PRIMARY KEY CHECK (length(version_id) = 32),
    name               TEXT NOT NULL,
    version            TEXT NOT NULL,
    kind               TEXT NOT NULL CHECK (kind IN ('application', 'runtime')),
    title              TEXT NOT NULL,
    manifest           BLOB NOT NULL,        -- canonical bytes, verified at import
    header             BLOB NOT NULL,        -- the file's fixed header, for the pointer
    object_digest      BLOB NOT NULL UNIQUE CHECK (length(object_digest) = 32),  -- SHA-256 of the stored file
    object_size        INTEGER NOT NULL,     -- bytes
    plain_bytes        INTEGER NOT NULL,     -- bytes that applications read
    sequence           INTEGER NOT NULL UNIQUE,  -- order of import: the highest of a name is its current version
    pointer_generation INTEGER NOT NULL,     -- of its pointer; from server.generation, so it never goes back
    imported           INTEGER NOT NULL,     -- seconds
    UNIQUE (name, version)
) STRICT;

CREATE TABLE requirement (                   -- complete stack under a version, bottom first
    version_id BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    required   BLOB    NOT NULL REFERENCES package (version_id) ON DELETE RESTRICT,
    PRIMARY KEY (version_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX requirement_by_required ON requirement (required);

CREATE TABLE entitlement (                   -- by package name: may exist before the package does
    package_name TEXT    NOT NULL,
    group_id     INTEGER NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    PRIMARY KEY (package_name, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX entitlement_by_group ON entitlement (group_id);

-- What an account may read: every version of the packages that its groups are entitled to,
-- and the runtimes that those versions stand on. The one place that decides it.
CREATE VIEW readable AS
    SELECT m.account_id AS account_id, p.version_id AS version_id
    FROM membership m
    JOIN entitlement e ON e.group_id = m.group_id
    JOIN package p ON p.name = e.package_name
    UNION
    SELECT m.account_id, r.required
    FROM membership m
    JOIN entitlement e ON e.group_id = m.group_id
    JOIN package p ON p.name = e.package_name
    JOIN requirement r ON r.version_id = p.version_id;

-- What an account is shown: the current version of each application that its groups are entitled to.
CREATE VIEW published AS
    SELECT DISTINCT m.account_id AS account_id, p.version_id AS version_id
    FROM membership m
    JOIN entitlement e ON e.group_id = m.group_id
    JOIN package p ON p.name = e.package_name
    WHERE p.kind = 'application'
      AND p.sequence = (SELECT max(q.sequence) FROM package q WHERE q.name = p.name);

-- The generation cannot be forgotten: the tables move it themselves.
CREATE TRIGGER package_added AFTER INSERT ON package
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER package_changed AFTER UPDATE ON package
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER package_removed AFTER DELETE ON package
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER entitlement_added AFTER INSERT ON entitlement
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER entitlement_removed AFTER DELETE ON entitlement
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER membership_added AFTER INSERT ON membership
    BEGIN UPDATE server SET generation = generation + 1; END;
CREATE TRIGGER membership_removed AFTER DELETE ON membership
    BEGIN UPDATE server SET generation = generation + 1; END;
