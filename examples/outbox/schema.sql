-- The outbox: messages that were decided on, in the same transaction as what they tell of.
CREATE TABLE IF NOT EXISTS relay_outbox (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue      text NOT NULL DEFAULT 'notifications',
  -- What makes a second push a duplicate. Random: numbers come again with a restored backup or a second database.
  message_id text NOT NULL DEFAULT gen_random_uuid() CHECK (length(message_id) BETWEEN 1 AND 128),
  -- Kept as written (json, not jsonb). What is refused here could only have become a dead letter.
  message    json NOT NULL CHECK (message -> 'payload' IS NOT NULL AND message -> 'id' IS NULL),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Of two transactions that write for one ordering_key, the second waits until the first has ended, and only then
-- takes its number: so numbers follow the commits. A role that inserts needs USAGE on relay_outbox_id_seq.
CREATE OR REPLACE FUNCTION relay_outbox_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(NEW.message ->> 'ordering_key', 7235401));
  NEW.id := nextval('relay_outbox_id_seq');
  RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_order BEFORE INSERT ON relay_outbox
  FOR EACH ROW WHEN (NEW.message ->> 'ordering_key' IS NOT NULL) EXECUTE FUNCTION relay_outbox_order();

-- Tells the forwarder, once for each statement. A notification leaves only when the transaction commits.
CREATE OR REPLACE FUNCTION relay_outbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('relay_outbox', '');
  RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_tell AFTER INSERT ON relay_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_tell();

-- What the example is about: posts.
CREATE TABLE IF NOT EXISTS posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author text, body text);
