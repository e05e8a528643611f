SELECT eduai.publish_event('exercise_attempted', 'zoe', 'monday',
  '{"skill": "writing", "correct": true,
    "answer": "my cat is called Pirate"}');
