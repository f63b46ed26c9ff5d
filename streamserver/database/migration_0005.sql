-- What one account's launches needed before it came, though their packs hold it.

ALTER TABLE launch_report ADD COLUMN late BLOB NOT NULL DEFAULT x'';   -- runs: content id, first page, pages, thousandths that had come
