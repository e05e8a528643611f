#!/usr/bin/env node
// A worker for eduai's queue: worker.js CONNECTION TASK_TYPE [LEASE_SECONDS]
// CONNECTION is a postgres:// URL. Needs the package pg; put your own work into work().
const os = require('os');
const { Client } = require('pg');

const [connectionString, taskType, leaseArgument] = process.argv.slice(2);
const lease = `${leaseArgument || 30} s`;
const name = `${os.hostname()}-${process.pid}`;
let stop = false; // ends after the task at hand
process.on('SIGTERM', () => { stop = true; });
process.on('SIGINT', () => { stop = true; });

async function work(payload) {
  await new Promise((resolve) => setTimeout(resolve, (payload.seconds || 0) * 1000));
  return { text: payload.text.toUpperCase() };
}

// True, or false when the attempt is no longer ours: cancelled, or the lease was lost.
async function call(db, sql, args) {
  try {
    await db.query(sql, args);
    return true;
  } catch (error) {
    if (error.code !== 'UE009') throw error;
    return false;
  }
}

async function run() {
  const db = new Client({ connectionString });
  await db.connect();
  while (!stop) {
    const claims = await db.query(
      "SELECT task_id, attempt, payload FROM eduai.claim_tasks($1, ARRAY[$2], lease => $3, wait => '2 s')", [name, taskType, lease]);
    for (const { task_id: task, attempt, payload } of claims.rows) {
      // The connection is free while the work is being done.
      const beats = setInterval(() => {
        call(db, 'SELECT eduai.extend_lease($1, $2, $3)', [task, attempt, lease]).catch(() => clearInterval(beats));
      }, parseFloat(lease) * 1000 / 3);
      const end = await work(payload).then(
        (result) => ['SELECT eduai.complete_task($1, $2, $3)', [task, attempt, JSON.stringify(result)]],
        (error) => ['SELECT eduai.fail_task($1, $2, $3)', [task, attempt, String(error)]]);
      clearInterval(beats);
      if (!await call(db, ...end)) console.log(`task ${task}: attempt ${attempt} is no longer ours`);
    }
  }
  await db.end();
}

run().catch((error) => { console.error(error); process.exitCode = 1; });
