CREATE TABLE orgs (
    name TEXT PRIMARY KEY,
    made_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE org_keys (
    org TEXT NOT NULL REFERENCES orgs (name) ON DELETE CASCADE,
    key BLOB NOT NULL,
    PRIMARY KEY (org, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE sites (
    id BLOB PRIMARY KEY,
    org TEXT NOT NULL REFERENCES orgs (name),
    charter BLOB NOT NULL,
    registration BLOB NOT NULL,
    made_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE trust (
    site BLOB NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (site, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster (
    site BLOB NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    log_time INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (site, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE views (
    site BLOB NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
    part TEXT NOT NULL,
    json BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (site, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    org TEXT NOT NULL,
    site BLOB NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    label TEXT NOT NULL,
    envelope BLOB NOT NULL,
    queued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    gateway BLOB,
    handed_ms INTEGER,
    said TEXT,
    PRIMARY KEY (site, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_by_label ON outbox (site, label, queued_ms);

CREATE TABLE receipts (
    site BLOB NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    receipt BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (site, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX receipts_by_age ON receipts (site, at_ms);
