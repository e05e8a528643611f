SELECT cardinality(eduai.enqueue_batch('chat',
         array_agg(jsonb_build_object('model', 'tutor', 'max_tokens', 60,
           'messages', jsonb_build_array(jsonb_build_object(
             'role', 'user', 'content', 'Question ' || n)))),
         user_ids => array_agg('pupil-' || n % 500)))
FROM generate_series(1, :tasks) AS n;
