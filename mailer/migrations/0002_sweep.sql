-- Whatever its state, a mail that nobody has touched for long is forgotten: see mailer/src/ledger/sweep.rs.
DROP INDEX mails_ended;
CREATE INDEX mails_updated_at ON mails (updated_at);
