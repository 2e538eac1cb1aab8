-- The people who may log in. Migrations only go forward: what is here is never edited, only added to.
CREATE TABLE users (
    id            bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT users_pkey PRIMARY KEY,
    email         text        NOT NULL,
    first_name    text        NOT NULL,
    last_name     text        NOT NULL,
    -- A PHC string: algorithm, parameters, salt and hash.
    password_hash text        NOT NULL,
    active        boolean     NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- One account an address, whatever its case. The code knows this name.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
