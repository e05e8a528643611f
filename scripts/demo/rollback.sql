BEGIN;
SELECT eduai.publish_event('exercise_completed', 'ana', 'monday',
         '{"skill": "percentages", "score": 1}');
SELECT eduai.enqueue_batch('chat', array_fill(
         '{"model": "tutor", "max_tokens": 60, "messages": [
            {"role": "user", "content": "This was never said."}]}'::jsonb,
         ARRAY[20]), priority => 'critical');
ROLLBACK;
