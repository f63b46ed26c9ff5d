-- How much of a launch pack leads to the first window.

ALTER TABLE launch_pack ADD COLUMN window_size INTEGER NOT NULL DEFAULT 0;   -- bytes from its start; 0: not known, all of it
