SELECT eduai.cached_query(
  'SELECT count(*) AS n FROM school.answer WHERE learner = $1',
  ARRAY['ana'], kind => 'progress');
