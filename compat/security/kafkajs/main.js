// kafkajs: produce and consume in a group, or be refused. `node main.js SETTINGS`, as JSON; prints a line.

const fs = require('fs')
const { Kafka, logLevel } = require('kafkajs')

const given = JSON.parse(process.argv[2])
const ssl = given.ca && {
  ca: [fs.readFileSync(given.ca)],
  ...(given.certificate && { cert: fs.readFileSync(given.certificate), key: fs.readFileSync(given.certificate) }),
}
const sasl = given.mechanism && {
  mechanism: given.mechanism.toLowerCase(),
  username: given.user,
  password: given.password,
}
const kafka = new Kafka({
  brokers: [given.address],
  clientId: 'door',
  logLevel: logLevel.NOTHING,
  retry: { retries: given.retries },
  ...(ssl && { ssl }),
  ...(sasl && { sasl }),
})

const pause = () => new Promise(resolve => setTimeout(resolve, given.pause))

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  if (given.create) await admin.createTopics({ topics: [{ topic: given.topic }] })
  await admin.disconnect()
  const producer = kafka.producer()
  await producer.connect()
  for (const [number, value] of given.values.entries()) {
    if (number) await pause()
    await producer.send({ topic: given.topic, messages: [{ value }] })
  }
  await producer.disconnect()
  const consumer = kafka.consumer({ groupId: given.topic })
  await consumer.connect()
  await consumer.subscribe({ topics: [given.topic], fromBeginning: true })
  const found = []
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    const eachMessage = async ({ message }) => {
      found.push(message.value.toString())
      await pause()
      if (found.length === given.values.length) resolve()
    }
    consumer.run({ eachMessage }).catch(reject)
  })
  await consumer.disconnect()
  return found.join(' ')
}

main().then(
  value => { console.log(`consumed ${value}`); process.exit(0) },
  error => { console.log(`refused: ${error.name}: ${error.message}`); process.exit(0) },
)
