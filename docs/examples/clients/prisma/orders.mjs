import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from '@prisma/client'

// The adapter prepares nothing by name, so a pooler of transactions needs no other setting.
// (Prisma's own engine, without an adapter: add ?pgbouncer=true to the URL.)
const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 4 })
// Prisma's own limits, 2 s to wait for a connection of the pool and 5 s for a transaction, are short for a busy hour.
export const prisma = new PrismaClient({ adapter, transactionOptions: { maxWait: 30_000, timeout: 30_000 } })

// Serialization failure, deadlock, lock not available: the transaction is rolled back, and may be tried again.
const RETRY = new Set(['40001', '40P01', '55P03'])
const PAUSES = [50, 200, 800]

/** The server's own code, whichever of Prisma's errors it comes in. */
export const sqlstate = (error) => (error.meta?.driverAdapterError ?? error).cause?.originalCode

/** Runs work(transaction) in a transaction of the tenant: `context` is its id, or a token. */
export async function withTenant(context, work) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await prisma.$transaction(async (db) => {
        await db.$executeRaw`SELECT bulkhead.set_tenant(${context})`
        return work(db)
      })
    } catch (error) {
      if (!RETRY.has(sqlstate(error)) || attempt === PAUSES.length) throw error
    }
    await new Promise((done) => setTimeout(done, PAUSES[attempt] * (0.5 + Math.random() / 2)))
  }
}

export async function listOrders(context) {
  return withTenant(context, (db) => db.order.findMany({ orderBy: { id: 'asc' } }))
}

/** POST /orders with an Idempotency-Key: the status and body to answer with. It is committed by then. */
export async function postOrder(context, key, body) {
  return withTenant(context, async (db) => {
    const [claim] = await db.$queryRaw`
      SELECT * FROM bulkhead.idempotency_claim(
        ${key}, bulkhead.request_fingerprint('POST', '/orders', ${JSON.stringify(body)}::jsonb))`
    if (claim.state === 'replay') return [claim.status, claim.response]
    if (claim.state === 'in_progress') return [409, { detail: 'a request with this Idempotency-Key is being worked on' }]
    if (claim.state === 'mismatch') return [422, { detail: 'this Idempotency-Key was used for another request' }]
    const { id, item, quantity } = await db.order.create({ data: { item: body.item, quantity: body.quantity } })
    const order = { id: Number(id), item, quantity }
    await db.$executeRaw`
      SELECT bulkhead.idempotency_complete(${key}, 201, ${JSON.stringify(order)}::jsonb, ${claim.fence})`
    return [201, order]
  })
}

/** Takes from the stock, durable when it is told. After an error or `pending` ask again with the same order id. */
export async function sell(context, orderId, item, quantity) {
  return withTenant(context, async (db) => {
    const [verdict] = await db.$queryRaw`
      SELECT verdict, remaining FROM bulkhead.decrement_now('stock', ${orderId}, ${item}, ${quantity}::bigint)`
    return verdict
  })
}
