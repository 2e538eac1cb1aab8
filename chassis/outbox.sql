-- Events that were written with their effects, and wait to be published: see chassis/src/outbox.rs. A migration of each
-- service that has some; like any other it is never edited.
CREATE TABLE outbox (
    seq         bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_pkey PRIMARY KEY,
    -- What the event is about: the events of one are published in their order.
    entity      text        NOT NULL,
    id          uuid        NOT NULL,
    routing_key text        NOT NULL,
    happened_at timestamptz NOT NULL,
    traceparent text,
    body        bytea       NOT NULL,
    written_at  timestamptz NOT NULL DEFAULT now(),
    -- When RabbitMQ had confirmed it; removed some time after.
    sent_at     timestamptz
);

-- However many are kept that were sent, these two hold only what is looked for.
CREATE INDEX outbox_waiting ON outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
