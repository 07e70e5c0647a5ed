// Prisma's schema engine as it comes in the npm package, as WebAssembly: the usual one, a program, is fetched from a host
// of its own when Prisma is installed, which closed networks do not reach. It talks to the server through the adapter,
// and where to is said by PGHOST, PGPORT, PGUSER and PGDATABASE.

import { randomUUID } from 'node:crypto'

import { PrismaPg } from '@prisma/adapter-pg'
import { defineConfig } from 'prisma/config'

const TEXT = 25
const AS_TEXT = new Set([18, 19]) // "char" and name: types of the catalogs, which the adapter does not know
// From PostgreSQL 18 on NOT NULL is a constraint of the catalogs, and the engine panics at a kind that it does not know.
const OTHER_CONSTRAINTS = "contype NOT IN ('p', 'u', 'f'"

// Else each command waits ten seconds for connections that nobody needs any more,
const POOL = { allowExitOnIdle: true }
// and for the clock by which the engine gives up waiting for its lock, which runs on when it has the lock.
const setTimer = globalThis.setTimeout
globalThis.setTimeout = (act, delay, ...more) => {
  const timer = setTimer(act, delay, ...more)
  return delay === 10_000 ? timer.unref() : timer
}

class CatalogsToo extends PrismaPg {
  async connect() {
    return readable(await super.connect())
  }

  // The adapter's own drops the database while it is still connected to it.
  async connectToShadowDb() {
    const database = `prisma_migrate_shadow_db_${randomUUID()}`
    const main = await this.connect()
    await main.executeScript(`CREATE DATABASE "${database}"`)
    const shadow = readable(await new PrismaPg({ ...POOL, database }).connect())
    const disconnect = shadow.dispose.bind(shadow)
    shadow.dispose = async () => {
      await disconnect()
      await main.executeScript(`DROP DATABASE "${database}"`)
      await main.dispose()
    }
    return shadow
  }
}

function readable(connection) {
  const performIO = connection.performIO.bind(connection)
  connection.performIO = async (query) => {
    const result = await performIO({ ...query, sql: query.sql.replace(OTHER_CONSTRAINTS, `${OTHER_CONSTRAINTS}, 'n'`) })
    for (const field of result.fields ?? []) if (AS_TEXT.has(field.dataTypeID)) field.dataTypeID = TEXT
    return result
  }
  // As one string, as the program sends it; the adapter's own cuts it at semicolons, those in functions' bodies too.
  connection.executeScript = async (script) => { await connection.client.query(script) }
  return connection
}

export default defineConfig({
  experimental: { adapter: true },
  engine: 'js',
  adapter: async () => new CatalogsToo(POOL),
})
