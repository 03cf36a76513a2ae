-- The outbox: messages that were decided on, in the same transaction as what they tell of.
CREATE TABLE IF NOT EXISTS relay_outbox (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue      text NOT NULL DEFAULT 'notifications',
  message    json NOT NULL CHECK (json_typeof(message) = 'object'),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Tells the forwarder, once for each statement. A notification leaves only when the transaction commits.
CREATE OR REPLACE FUNCTION relay_outbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('relay_outbox', '');
  RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_tell AFTER INSERT ON relay_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_tell();

-- What the example is about: posts, and who follows.
CREATE TABLE IF NOT EXISTS posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author text, body text);
