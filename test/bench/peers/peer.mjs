// What the peers' programs share: arguments, and the handshake with the
// benchmark (test/bench/peers.c). A program prints "ready", waits for a line,
// works for so many seconds and prints how many tasks it finished within how
// many seconds, and how many in all.
import { createInterface } from 'node:readline'

// the arguments after the command: NAME=NUMBER
export function options() {
  const given = {}
  for (const arg of process.argv.slice(3)) {
    const [name, value] = arg.split('=')
    given[name] = Number(value)
  }
  return given
}

export function ready() {
  console.log('ready')
  return new Promise((resolve) => createInterface({ input: process.stdin }).once('line', resolve))
}

// Counts what is finished from the first to the last within the time.
export class Count {
  constructor(seconds) {
    this.limit = seconds * 1000
    this.within = 0
    this.all = 0
  }

  // true while the time is not over
  add(n) {
    const now = performance.now()
    this.start ??= now
    this.all += n
    if (now - this.start > this.limit) return false
    this.within += n
    this.last = now
    return true
  }

  print() {
    const seconds = (this.last - this.start) / 1000 || 0
    console.log(`${this.within} ${seconds} ${this.all}`)
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

// As in the other peer's jobs: letters without much to compress.
export function payload() {
  let text = ''
  while (text.length < 1000) text += Math.random().toString(36).slice(2)
  return { text: text.slice(0, 1000) }
}
