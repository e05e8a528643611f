#!/usr/bin/python3
"""A worker for eduai's queue: worker.py CONNECTION TASK_TYPE [LEASE_SECONDS]

Needs psycopg2 (Debian: python3-psycopg2). Put your own work into work().
"""
import os, signal, sys, threading, time
import psycopg2
from psycopg2.extras import Json

dsn, task_type = sys.argv[1:3]
lease = float(sys.argv[3]) if len(sys.argv) > 3 else 30
name = f"{os.uname().nodename}-{os.getpid()}"
stop = threading.Event()
for sign in signal.SIGTERM, signal.SIGINT:
    signal.signal(sign, lambda *_: stop.set())  # ends after the task at hand


def work(payload):
    time.sleep(payload.get("seconds", 0))
    return {"text": payload["text"].upper()}


def call(db, sql, *args):
    """True, or False when the attempt is no longer ours: cancelled, or the lease was lost."""
    try:
        db.cursor().execute(sql, args)
        return True
    except psycopg2.Error as e:
        if e.pgcode != "UE009":
            raise
        return False


def heartbeat(task, attempt, done):
    with_lease = psycopg2.connect(dsn)
    with_lease.autocommit = True
    while not done.wait(lease / 3):
        if not call(with_lease, "SELECT eduai.extend_lease(%s, %s, %s * interval '1 s')", task, attempt, lease):
            break
    with_lease.close()


db = psycopg2.connect(dsn)
db.autocommit = True
while not stop.is_set():
    claims = db.cursor()
    claims.execute("SELECT task_id, attempt, payload FROM eduai.claim_tasks(%s, ARRAY[%s], lease => %s * interval '1 s', wait => '2 s')",
                   (name, task_type, lease))
    for task, attempt, payload in claims:
        done = threading.Event()
        beats = threading.Thread(target=heartbeat, args=(task, attempt, done))
        beats.start()
        try:
            end = "SELECT eduai.complete_task(%s, %s, %s)", task, attempt, Json(work(payload))
        except Exception as e:
            end = "SELECT eduai.fail_task(%s, %s, %s)", task, attempt, repr(e)
        done.set()
        beats.join()
        if not call(db, *end):
            print(f"task {task}: attempt {attempt} is no longer ours", flush=True)
