-- The dead letter that asked for the last attempt: each letter gets one.
ALTER TABLE mails ADD COLUMN replay uuid;
