-- Launch profiles, the packs built from them, and what clients report of their launches.

CREATE TABLE launch_profile (                -- one for each application of a version
    version_id   BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    application  TEXT    NOT NULL,           -- its id
    trained      BLOB    NOT NULL,           -- profile document, as the sequencer wrote it
    relearned    BLOB,                       -- the same and what clients missed; NULL: nothing more
    digest       BLOB    NOT NULL CHECK (length(digest) = 32),   -- SHA-256 of the one that holds
    reports      INTEGER NOT NULL DEFAULT 0, -- reports ever taken
    merged       INTEGER NOT NULL DEFAULT 0, -- `reports` when they were last merged
    stored       INTEGER NOT NULL,           -- seconds
    PRIMARY KEY (version_id, application)
) STRICT;

CREATE TABLE launch_pack (
    version_id     BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    application    TEXT    NOT NULL,
    bubble_id      BLOB    NOT NULL CHECK (length(bubble_id) = 32),
    object_digest  BLOB    NOT NULL UNIQUE CHECK (length(object_digest) = 32),
    object_size    INTEGER NOT NULL,         -- bytes
    pages          INTEGER NOT NULL,
    unresolved     INTEGER NOT NULL,         -- pages of the profile that are not in the stack
    profile_digest BLOB    NOT NULL CHECK (length(profile_digest) = 32),  -- what it was built from
    rules          INTEGER NOT NULL,         -- version of the builder's rules
    considered     BLOB    NOT NULL,         -- digests of the other profiles, by which its classes were made
    built          INTEGER NOT NULL,         -- seconds
    PRIMARY KEY (version_id, application)
) STRICT;

CREATE TABLE language_pack (                 -- files of one language that a launch in it reads
    version_id     BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    application    TEXT    NOT NULL,
    language       TEXT    NOT NULL,         -- "fr"
    bubble_id      BLOB    NOT NULL CHECK (length(bubble_id) = 32),
    object_digest  BLOB    NOT NULL UNIQUE CHECK (length(object_digest) = 32),
    object_size    INTEGER NOT NULL,         -- bytes
    PRIMARY KEY (version_id, application, language)
) STRICT;

CREATE TABLE retired_object (                -- replaced, but URLs for it are still about
    object_digest BLOB PRIMARY KEY CHECK (length(object_digest) = 32),
    until         INTEGER NOT NULL           -- seconds: removed after
) STRICT;

CREATE TABLE launch_report (                 -- what one account's launches missed: one row, however often
    version_id   BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    application  TEXT    NOT NULL,
    account_id   BLOB    NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    since        INTEGER NOT NULL,           -- seconds: when collecting began
    reported     INTEGER NOT NULL,           -- seconds: the latest launch
    launches     INTEGER NOT NULL,
    window_ms    INTEGER NOT NULL,           -- of the latest launch, as all below
    seconds      REAL    NOT NULL,
    bytes        INTEGER NOT NULL,
    pages_needed INTEGER NOT NULL,
    pages_missed INTEGER NOT NULL,
    missed       BLOB    NOT NULL,           -- runs collected since: content id, first page, pages (40 bytes)
    PRIMARY KEY (version_id, application, account_id)
) STRICT;
CREATE INDEX launch_report_by_account ON launch_report (account_id);

-- The pointer of a version names its packs: its generation grows when they change.
CREATE TRIGGER launch_pack_added AFTER INSERT ON launch_pack
    BEGIN UPDATE package SET pointer_generation = (SELECT generation + 1 FROM server) WHERE version_id = NEW.version_id; END;
CREATE TRIGGER launch_pack_changed AFTER UPDATE OF object_digest ON launch_pack
    BEGIN UPDATE package SET pointer_generation = (SELECT generation + 1 FROM server) WHERE version_id = NEW.version_id; END;
CREATE TRIGGER launch_pack_removed AFTER DELETE ON launch_pack
    BEGIN UPDATE package SET pointer_generation = (SELECT generation + 1 FROM server) WHERE version_id = OLD.version_id; END;
