-- Any language will do: a post and its message, both or neither.
--   psql "$DATABASE_URL" -v author=ada -v body='Hello' -f post.sql
BEGIN;
INSERT INTO posts (author, body) VALUES (:'author', :'body');
INSERT INTO relay_outbox (message)
SELECT json_build_object(
  'ordering_key', 'feed-' || :'author',
  'ttl', '1d',
  'payload', json_build_object('body', json_build_object('post', currval('posts_id_seq'), 'text', :'body')));
COMMIT;
