// graphile-worker as a peer of queue_peers and of nothing else: "install"
// makes its schema and prints its version, "drain" works on the jobs of task
// "bench" for so many seconds.
//   concurrency  jobs at once;  local  size of the local queue, 0 for none
//   delay        completeJobBatchDelay in ms, -1 for none;  seconds
import { Logger, run, runMigrations } from 'graphile-worker'
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { Count, options, ready, sleep } from './peer.mjs'

// what it says while it stops is of no interest: what it counted is compared with its table
let stopping = false
const logger = new Logger(() => (level, message) => {
  if (level === 'error' && !stopping) console.error(message)
})

async function install() {
  await runMigrations({ connectionString: 'postgres://', logger })
  const file = new URL('node_modules/graphile-worker/package.json', import.meta.url)
  console.log(JSON.parse(readFileSync(file)).version)
}

async function drain() {
  const { concurrency, local, delay, seconds } = options()
  const pgPool = new pg.Pool({ max: concurrency + 2 })
  pgPool.on('error', (error) => console.error(error))
  pgPool.on('connect', (client) => client.on('error', (error) => console.error(error)))
  const count = new Count(seconds)
  let over
  const end = new Promise((resolve) => (over = resolve))
  const worker = { concurrentJobs: concurrency, pollInterval: 1000 }
  if (local > 0) worker.localQueue = { size: local }
  if (delay >= 0) worker.completeJobBatchDelay = delay
  await Promise.all(Array.from({ length: concurrency }, () => pgPool.query('SELECT pg_sleep(0.1)')))
  await ready()
  const runner = await run({
    pgPool,
    logger,
    noHandleSignals: true,
    preset: { worker },
    taskList: {
      bench: async () => {
        if (!count.add(1)) over()
      },
    },
  })
  await Promise.race([end, sleep(seconds * 1000 + 2000)])
  stopping = true
  await runner.stop()
  await pgPool.end()
  count.print()
}

await { install, drain }[process.argv[2]]()
process.exit(0)
