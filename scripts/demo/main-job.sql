BEGIN;
SELECT eduai.publish_event('exercise_attempted', 'ana', 'monday',
         '{"skill": "decimals", "item": "d-17", "correct": false}');
INSERT INTO answer (learner, item, answer, task_id) VALUES
  ('ana', 'd-17', '0.12 is more than 0.3',
   eduai.enqueue('chat',
     '{"model": "tutor", "max_tokens": 60, "messages": [
        {"role": "system", "content": "You are a kind tutor. One sentence."},
        {"role": "user", "content": "Why is 0.12 less than 0.3? A hint."}]}',
     user_id => 'ana', priority => 'high', on_result => 'school.keep_hint'));
COMMIT;
