SELECT eduai.publish_event('learning_started', 'ana', 'monday',
         '{"course_id": "maths-7"}');
SELECT eduai.publish_event('exercise_completed', 'ana', 'monday',
         '{"skill": "fractions", "score": 0.9, "time_spent": 80}');
SELECT eduai.publish_event('skill_mastered', 'ana', 'monday',
         '{"skill": "fractions"}');
SELECT eduai.publish_event('exercise_completed', 'ana', 'monday',
         '{"skill": "decimals", "score": 0.4, "time_spent": 130}');
SELECT eduai.publish_event('emotion_detected', 'ana', 'monday',
         '{"emotion": "curious", "confidence": 0.8}');
