// Does what the tests ask for, with docs/examples/clients/{node-postgres,prisma}/orders.mjs (its path is the argument).
//
// A request and an answer are one line of JSON each; answers come in the order in which they are ready.

import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const orders = await import(pathToFileURL(process.argv[2]))
const rows = orders.prisma
  ? (sql) => orders.prisma.$queryRawUnsafe(sql)
  : async (sql) => (await orders.pool.query(sql)).rows
const sqlstate = orders.sqlstate ?? ((error) => error.code)

// A bigint is a string to node-postgres and a BigInt to Prisma; a column has its mapped name in Prisma.
const row = ({ id, tenant_id, tenantId, item, quantity }) => ({ id: Number(id), tenant_id: tenant_id ?? tenantId, item, quantity })

const DO = {
  list: async (ask) => (await orders.listOrders(ask.context)).map(row),
  order: async (ask) => {
    const [status, body] = await orders.postOrder(ask.context, ask.key, ask.body)
    return [status, 'id' in body ? { ...body, id: Number(body.id) } : body]
  },
  sell: async (ask) => {
    const { verdict, remaining } = await orders.sell(ask.context, ask.key, ask.item, ask.quantity)
    return { verdict, remaining: Number(remaining) }
  },
  naked: () => rows('SELECT id FROM orders'),
  left: async () => (await rows('SELECT bulkhead.tenant_id_text() AS tenant'))[0].tenant,
}

const answer = (id, told) =>
  console.log(JSON.stringify({ id, ...told }, (_, value) => (typeof value === 'bigint' ? Number(value) : value)))

for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line)
  DO[ask.do](ask).then(
    (ok) => answer(ask.id, { ok }),
    (error) => answer(ask.id, { sqlstate: sqlstate(error), message: error.message }),
  )
}
await (orders.prisma?.$disconnect() ?? orders.pool.end())
