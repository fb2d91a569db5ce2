// kafkajs's admin client, every method: `node main.js BOOTSTRAP` prints a line for each step.
// A line is the step, a tab, and the answer or how it was refused, as JSON.

const {
  Kafka, logLevel, ConfigResourceTypes, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes,
} = require('kafkajs')

const bootstrap = process.argv[2]
const kafka = new Kafka({ brokers: [bootstrap], clientId: 'tour', logLevel: logLevel.NOTHING, retry: { retries: 2 } })
const topic = 'js-tour'
const groupId = 'js-group'

const rule = {
  resourceType: AclResourceTypes.TOPIC,
  resourceName: topic,
  resourcePatternType: ResourcePatternTypes.LITERAL,
  principal: 'User:js',
  host: '*',
  operation: AclOperationTypes.READ,
  permissionType: AclPermissionTypes.ALLOW,
}
const anyRule = {
  resourceType: AclResourceTypes.ANY,
  resourcePatternType: ResourcePatternTypes.ANY,
  operation: AclOperationTypes.ANY,
  permissionType: AclPermissionTypes.ANY,
}
const configOf = (name, configNames) => ({
  includeSynonyms: true,
  resources: [{ type: ConfigResourceTypes.TOPIC, name, ...(configNames ? { configNames } : {}) }],
})
const altered = (name, value) => ({
  validateOnly: false,
  resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] }],
})

async function consumed() {
  const producer = kafka.producer()
  await producer.connect()
  const messages = [...Array(30).keys()].map(n => ({ value: `${n}`, partition: n % 3, timestamp: `${1000000 + n}` }))
  await producer.send({ topic, messages })
  await producer.disconnect()
  const consumer = kafka.consumer({ groupId })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let count = 0
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    consumer.run({ eachMessage: async () => { count += 1; if (count === 30) resolve() } }).catch(reject)
  })
  await consumer.disconnect()
  return count
}

const steps = [
  ['createTopics', a => a.createTopics({ topics: [{ topic, numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] })],
  ['createTopics again', a => a.createTopics({ topics: [{ topic }] })],
  ['createTopics, checked only', a => a.createTopics({ validateOnly: true, topics: [{ topic: 'js-not-made' }] })],
  ['createTopics, a bad name', a => a.createTopics({ topics: [{ topic: 'js*' }] })],
  ['createTopics, a bad setting', a => a.createTopics({ topics: [{ topic: 'js-x', configEntries: [{ name: 'retention.ms', value: 'soon' }] }] })],
  ['createTopics, too many replicas', a => a.createTopics({ topics: [{ topic: 'js-x', replicationFactor: 3 }] })],
  ['createTopics, assigned', a => a.createTopics({ topics: [{ topic: 'js-assigned', replicaAssignment: [{ partition: 0, replicas: [1] }] }] })],
  ['listTopics', a => a.listTopics()],
  ['fetchTopicMetadata', a => a.fetchTopicMetadata({ topics: [topic] })],
  ['fetchTopicMetadata of none', a => a.fetchTopicMetadata({ topics: ['js-missing'] })],
  ['createPartitions', a => a.createPartitions({ topicPartitions: [{ topic, count: 5 }] })],
  ['createPartitions, fewer', a => a.createPartitions({ topicPartitions: [{ topic, count: 2 }] })],
  ['createPartitions of none', a => a.createPartitions({ topicPartitions: [{ topic: 'js-missing', count: 2 }] })],
  ['produce and consume', consumed],
  ['fetchTopicOffsets', a => a.fetchTopicOffsets(topic)],
  ['fetchTopicOffsetsByTimestamp', a => a.fetchTopicOffsetsByTimestamp(topic, 1000010)],
  ['fetchTopicOffsetsByTimestamp, now', a => a.fetchTopicOffsetsByTimestamp(topic)],
  ['fetchOffsets', a => a.fetchOffsets({ groupId, topics: [topic] })],
  ['fetchOffsets, all', a => a.fetchOffsets({ groupId })],
  ['fetchOffsets, resolved', a => a.fetchOffsets({ groupId, topics: [topic], resolveOffsets: true })],
  ['setOffsets', a => a.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '3' }] })],
  ['resetOffsets', a => a.resetOffsets({ groupId, topic, earliest: true })],
  ['fetchOffsets again', a => a.fetchOffsets({ groupId, topics: [topic] })],
  ['describeCluster', a => a.describeCluster()],
  ['describeConfigs', a => a.describeConfigs(configOf(topic))],
  ['describeConfigs, one', a => a.describeConfigs(configOf(topic, ['retention.ms']))],
  ['describeConfigs of none', a => a.describeConfigs(configOf('js-missing'))],
  ['alterConfigs', a => a.alterConfigs(altered('cleanup.policy', 'compact'))],
  ['alterConfigs, a bad value', a => a.alterConfigs(altered('cleanup.policy', 'sweep'))],
  ['alterConfigs, no such name', a => a.alterConfigs(altered('no.such', '1'))],
  ['describeConfigs again', a => a.describeConfigs(configOf(topic, ['cleanup.policy', 'retention.ms']))],
  ['listGroups', a => a.listGroups()],
  ['describeGroups', a => a.describeGroups([groupId, 'js-nobody'])],
  ['createAcls', a => a.createAcls({ acl: [rule] })],
  ['createAcls, a bad principal', a => a.createAcls({ acl: [{ ...rule, principal: 'js' }] })],
  ['describeAcls', a => a.describeAcls(anyRule)],
  ['describeAcls of one', a => a.describeAcls({ ...rule, resourcePatternType: ResourcePatternTypes.MATCH })],
  ['deleteAcls', a => a.deleteAcls({ filters: [rule, { ...rule, principal: 'User:nobody' }] })],
  ['deleteTopicRecords', a => a.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }, { partition: 1, offset: '-1' }] })],
  ['deleteTopicRecords beyond', a => a.deleteTopicRecords({ topic, partitions: [{ partition: 2, offset: '400' }] })],
  ['alterPartitionReassignments', a => a.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [1] }] }] })],
  ['alterPartitionReassignments, nobody there', a => a.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [7] }] }] })],
  ['listPartitionReassignments', a => a.listPartitionReassignments({})],
  ['listPartitionReassignments of one', a => a.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })],
  ['deleteGroups', a => a.deleteGroups([groupId])],
  ['deleteGroups again', a => a.deleteGroups([groupId])],
  ['deleteTopics', a => a.deleteTopics({ topics: [topic, 'js-assigned'] })],
  ['deleteTopics of none', a => a.deleteTopics({ topics: ['js-missing'] })],
  ['listTopics at the end', a => a.listTopics()],
]

const told = error => ({
  refused: error.name,
  type: error.type,
  message: error.message,
  ...(error.errors ? { errors: error.errors.map(told) } : {}),
  ...(error.groups ? { groups: error.groups.map(g => ({ groupId: g.groupId, errorCode: g.errorCode })) } : {}),
  ...(error.partitions ? { partitions: error.partitions } : {}),
})

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  for (const [name, step] of steps) {
    let answer
    try {
      answer = await step(admin)
    } catch (error) {
      answer = told(error)
    }
    console.log(`${name}\t${JSON.stringify(answer === undefined ? null : answer)}`)
  }
  await admin.disconnect()
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1) })
