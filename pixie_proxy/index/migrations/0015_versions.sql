-- The newest schema that a process knows; 0 is one that did not say. A step that breaks older programs looks for them.
ALTER TABLE processes ADD COLUMN schema BIGINT NOT NULL DEFAULT 0;
