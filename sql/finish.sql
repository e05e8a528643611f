-- Last of all: nothing is anybody's by default, and the workers may start.
REVOKE ALL ON ALL TABLES IN SCHEMA eduai FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA eduai FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA eduai FROM PUBLIC;
SELECT eduai.start_workers() WHERE eduai.preloaded();
