-- The ledger of mails: what became of each, so that none goes out twice. Migrations only go forward: what is here is
-- never edited, only added to.
CREATE TABLE mails (
    id          uuid        CONSTRAINT mails_pkey PRIMARY KEY,
    -- Of the payload: the same id with another one is refused.
    digest      uuid        NOT NULL,
    -- claimed: somebody sends it. waiting: it was not taken, and may be sent again. sent, failed: the end.
    state       text        NOT NULL CHECK (state IN ('claimed', 'waiting', 'sent', 'failed')),
    -- Who sends it, and until when nobody else may.
    holder      uuid,
    lease_until timestamptz,
    attempts    integer     NOT NULL DEFAULT 1,
    -- Whether the mail server may have it already, though nobody knows.
    doubtful    boolean     NOT NULL DEFAULT false,
    -- Why it was not taken the last time, as the answer says it.
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- For removing what is old.
CREATE INDEX mails_ended ON mails (updated_at) WHERE state IN ('sent', 'failed');
