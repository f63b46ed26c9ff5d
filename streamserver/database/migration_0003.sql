-- Deltas between versions of a package, and which versions clients still have.

CREATE TABLE delta (                         -- one for each pair; removed with either version
    old_version_id BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    new_version_id BLOB    NOT NULL REFERENCES package (version_id) ON DELETE CASCADE,
    object_digest  BLOB    NOT NULL UNIQUE CHECK (length(object_digest) = 32),
    object_size    INTEGER NOT NULL,         -- bytes
    built          INTEGER NOT NULL,         -- seconds
    PRIMARY KEY (old_version_id, new_version_id)
) STRICT;
CREATE INDEX delta_by_new ON delta (new_version_id);

CREATE TABLE asked (                         -- versions whose pointers clients asked for
    version_id BLOB PRIMARY KEY REFERENCES package (version_id) ON DELETE CASCADE,
    last       INTEGER NOT NULL              -- seconds, to a day
) STRICT;
