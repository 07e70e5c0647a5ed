import pg from 'pg'

// Without `name` in a query nothing stays prepared, so a pooler of transactions needs no other setting.
export const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 })

// Serialization failure, deadlock, lock not available: the transaction is rolled back, and may be tried again.
const RETRY = new Set(['40001', '40P01', '55P03'])
const PAUSES = [50, 200, 800]

/** Runs work(client) in a transaction of the tenant: `context` is its id, or a token. */
export async function withTenant(context, work) {
  for (let attempt = 0; ; attempt++) {
    const client = await pool.connect()
    let broken
    try {
      await client.query('BEGIN')
      await client.query('SELECT bulkhead.set_tenant($1)', [context])
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      // A connection that cannot roll back goes out of the pool: what it still holds is nobody's next context.
      await client.query('ROLLBACK').catch((failure) => { broken = failure })
      if (!RETRY.has(error.code) || attempt === PAUSES.length) throw error
    } finally {
      client.release(broken)
    }
    await new Promise((done) => setTimeout(done, PAUSES[attempt] * (0.5 + Math.random() / 2)))
  }
}

export async function listOrders(context) {
  return withTenant(context, async (db) => (await db.query('SELECT * FROM orders ORDER BY id')).rows)
}

/** POST /orders with an Idempotency-Key: the status and body to answer with. It is committed by then. */
export async function postOrder(context, key, body) {
  return withTenant(context, async (db) => {
    const { rows: [claim] } = await db.query(
      "SELECT * FROM bulkhead.idempotency_claim($1, bulkhead.request_fingerprint('POST', '/orders', $2))",
      [key, body],
    )
    if (claim.state === 'replay') return [claim.status, claim.response]
    if (claim.state === 'in_progress') return [409, { detail: 'a request with this Idempotency-Key is being worked on' }]
    if (claim.state === 'mismatch') return [422, { detail: 'this Idempotency-Key was used for another request' }]
    const { rows: [order] } = await db.query(
      'INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id, item, quantity',
      [body.item, body.quantity],
    )
    await db.query('SELECT bulkhead.idempotency_complete($1, 201, $2, $3)', [key, order, claim.fence])
    return [201, order]
  })
}

/** Takes from the stock, durable when it is told. After an error or `pending` ask again with the same order id. */
export async function sell(context, orderId, item, quantity) {
  return withTenant(context, async (db) => {
    const { rows: [verdict] } = await db.query(
      "SELECT verdict, remaining FROM bulkhead.decrement_now('stock', $1, $2, $3::bigint)",
      [orderId, item, quantity],
    )
    return verdict
  })
}
