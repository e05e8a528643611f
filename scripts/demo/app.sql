-- The application's own side: its role, its table, and what it does with an answer.

CREATE ROLE school LOGIN;
GRANT eduai_app TO school;
GRANT CREATE ON DATABASE demo TO school;
CREATE SCHEMA school AUTHORIZATION school;

SET ROLE school;

CREATE TABLE school.answer (
	answer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	learner text NOT NULL,
	item text NOT NULL,
	answer text NOT NULL,
	task_id bigint UNIQUE,
	hint text,
	hint_cost_usd numeric
);

-- An on_result handler: runs in the commit that records the task's result.
CREATE FUNCTION school.keep_hint(task eduai.task_status) RETURNS void LANGUAGE sql
BEGIN ATOMIC
	UPDATE school.answer
	SET hint = task.result ->> 'text', hint_cost_usd = task.cost_usd
	WHERE answer.task_id = task.task_id AND task.state = 'completed';
END;
