-- The outbox: messages, written in the same transaction as the data that they are about.
CREATE TABLE IF NOT EXISTS relay_outbox (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue      text NOT NULL DEFAULT 'notifications',
  -- Identifies duplicates. Random, because a restored backup or a second database would repeat numbers.
  message_id text NOT NULL DEFAULT gen_random_uuid() CHECK (length(message_id) BETWEEN 1 AND 128),
  -- Kept as written (json, not jsonb). The check refuses messages that could only become dead letters.
  message    json NOT NULL CHECK (message -> 'payload' IS NOT NULL AND message -> 'id' IS NULL),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- If two transactions write for one ordering_key, the second waits until the first has ended, and only then
-- takes its number, so numbers follow the commits. A role that inserts needs USAGE on relay_outbox_id_seq.
CREATE OR REPLACE FUNCTION relay_outbox_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(NEW.message ->> 'ordering_key', 7235401));
  NEW.id := nextval('relay_outbox_id_seq');
  RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_order BEFORE INSERT ON relay_outbox
  FOR EACH ROW WHEN (NEW.message ->> 'ordering_key' IS NOT NULL) EXECUTE FUNCTION relay_outbox_order();

-- Notifies the forwarder, once per statement. PostgreSQL sends a notification when the transaction commits.
CREATE OR REPLACE FUNCTION relay_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('relay_outbox', '');
  RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_notify AFTER INSERT ON relay_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_notify();

-- The application's own data: posts.
CREATE TABLE IF NOT EXISTS posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author text, body text);
