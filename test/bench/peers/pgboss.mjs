// pg-boss as a peer of queue_peers: "install" makes its schema and its queue
// "bench" and prints its version, "fill" adds jobs, "send" sends single jobs
// for so many seconds, "drain" fetches and completes jobs for so many seconds.
//   n        jobs to add;  clients  loops at once, each with a connection
//   batch    jobs fetched and completed at once;  seconds
import { readFileSync } from 'node:fs'
import { PgBoss } from 'pg-boss'
import { Count, options, payload, ready } from './peer.mjs'

const QUEUE = 'bench'

async function start(max) {
  const boss = new PgBoss({
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    user: process.env.PGUSER,
    database: process.env.PGDATABASE,
    max,
    supervise: false,
    schedule: false,
  })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  return boss
}

async function install() {
  const boss = await start(2)
  await boss.createQueue(QUEUE)
  const file = new URL('node_modules/pg-boss/package.json', import.meta.url)
  console.log(JSON.parse(readFileSync(file)).version)
}

async function fill() {
  const { n } = options()
  const boss = await start(2)
  for (let done = 0; done < n; done += 1000) {
    const jobs = Array.from({ length: Math.min(1000, n - done) }, () => ({ data: payload() }))
    await boss.insert(QUEUE, jobs)
  }
}

// so many loops, each repeating a step that returns how many it finished
async function loops(clients, seconds, step) {
  const count = new Count(seconds)
  const one = async () => {
    for (;;) {
      const n = await step()
      if (n === 0 || !count.add(n)) return
    }
  }
  await ready()
  await Promise.all(Array.from({ length: clients }, one))
  count.print()
}

async function send() {
  const { clients, seconds } = options()
  const boss = await start(clients)
  await Promise.all(Array.from({ length: clients }, () => boss.send(QUEUE, payload())))
  await loops(clients, seconds, async () => {
    await boss.send(QUEUE, payload())
    return 1
  })
}

async function drain() {
  const { clients, batch, seconds } = options()
  const boss = await start(clients)
  const how = { batchSize: batch }
  await loops(clients, seconds, async () => {
    const jobs = await boss.fetch(QUEUE, how)
    if (jobs.length > 0) await boss.complete(QUEUE, jobs.map((job) => job.id))
    return jobs.length
  })
}

await { install, fill, send, drain }[process.argv[2]]()
process.exit(0)
