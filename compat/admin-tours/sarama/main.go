// Sarama's cluster admin, every method: the program prints a line for each step, the step, a tab, and the answer or how
// it was refused, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
)

const topic, group = "go-tour", "go-group"

type step struct {
	name string
	do   func() (any, error)
}

func text(value string) *string { return &value }

func nothing(err error) (any, error) { return nil, err }

func main() {
	bootstrap := []string{os.Args[1]}
	config := sarama.NewConfig()
	config.ClientID = "tour"
	config.Version = sarama.MaxVersion
	config.Admin.Retry.Max = 1
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	admin, err := sarama.NewClusterAdmin(bootstrap, config)
	if err != nil {
		panic(err)
	}
	defer admin.Close()
	made := func(name string, detail sarama.TopicDetail, only bool) func() (any, error) {
		return func() (any, error) { return nothing(admin.CreateTopic(name, &detail, only)) }
	}
	rule := sarama.Acl{Principal: "User:go", Host: "*", Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionAllow}
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}
	every := sarama.AclFilter{
		ResourceType: sarama.AclResourceAny, ResourcePatternTypeFilter: sarama.AclPatternAny,
		Operation: sarama.AclOperationAny, PermissionType: sarama.AclPermissionAny,
	}
	listed := func() (any, error) {
		time.Sleep(2 * time.Second) // what was changed last is seen everywhere
		return admin.ListTopics()
	}
	described := func(kind sarama.ConfigResourceType, name string, names ...string) func() (any, error) {
		return func() (any, error) {
			return admin.DescribeConfig(sarama.ConfigResource{Type: kind, Name: name, ConfigNames: names})
		}
	}
	steps := []step{
		{"CreateTopic", made(topic, sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": text("3600000")}}, false)},
		{"CreateTopic again", made(topic, sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false)},
		{"CreateTopic, checked only", made("go-not-made", sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, true)},
		{"CreateTopic, a bad name", made("go*", sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false)},
		{"CreateTopic, too many replicas", made("go-x", sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 3}, false)},
		{"CreateTopic, a bad setting", made("go-x", sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": text("soon")}}, false)},
		{"CreateTopic, assigned", made("go-assigned", sarama.TopicDetail{NumPartitions: -1, ReplicationFactor: -1, ReplicaAssignment: map[int32][]int32{0: {1}}}, false)},
		{"ListTopics", listed},
		{"DescribeTopics", func() (any, error) { return admin.DescribeTopics([]string{topic, "go-missing"}) }},
		{"CreatePartitions", func() (any, error) { return nothing(admin.CreatePartitions(topic, 5, nil, false)) }},
		{"CreatePartitions, fewer", func() (any, error) { return nothing(admin.CreatePartitions(topic, 2, nil, false)) }},
		{"CreatePartitions, assigned to nobody", func() (any, error) { return nothing(admin.CreatePartitions(topic, 6, [][]int32{{7}}, false)) }},
		{"produce", func() (any, error) {
			producer, err := sarama.NewSyncProducer(bootstrap, config)
			if err != nil {
				return nil, err
			}
			defer producer.Close()
			for n := 0; n < 30; n++ {
				message := sarama.ProducerMessage{Topic: topic, Partition: int32(n % 3), Value: sarama.StringEncoder("x"), Timestamp: time.UnixMilli(int64(1000000 + n))}
				if _, _, err := producer.SendMessage(&message); err != nil {
					return nil, err
				}
			}
			return 30, nil
		}},
		{"ListOffsets", func() (any, error) {
			return admin.ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetOldest, 1: sarama.OffsetNewest, 2: 1000010}}, nil)
		}},
		{"AlterPartitionReassignments", func() (any, error) {
			return nothing(admin.AlterPartitionReassignments(topic, [][]int32{{1}, {1}, {1}, {1}, {1}}))
		}},
		{"AlterPartitionReassignments to nobody", func() (any, error) { return nothing(admin.AlterPartitionReassignments(topic, [][]int32{{7}})) }},
		{"ListPartitionReassignments", func() (any, error) { return admin.ListPartitionReassignments(topic, []int32{0, 1}) }},
		{"DeleteRecords", func() (any, error) { return nothing(admin.DeleteRecords(topic, map[int32]int64{0: 2, 1: -1})) }},
		{"DeleteRecords beyond", func() (any, error) { return nothing(admin.DeleteRecords(topic, map[int32]int64{2: 400})) }},
		{"DeleteRecords of none", func() (any, error) { return nothing(admin.DeleteRecords("go-missing", map[int32]int64{0: 1})) }},
		{"DescribeConfig", described(sarama.TopicResource, topic)},
		{"DescribeConfig, one", described(sarama.TopicResource, topic, "retention.ms")},
		{"DescribeConfig of none", described(sarama.TopicResource, "go-missing")},
		{"DescribeConfig of the broker", described(sarama.BrokerResource, "1", "num.network.threads", "ssl.key.password")},
		{"DescribeConfigs", func() (any, error) {
			return admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"cleanup.policy"}}}, sarama.DescribeConfigsOptions{})
		}},
		{"IncrementalAlterConfig", func() (any, error) {
			return nothing(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"cleanup.policy": {Operation: sarama.IncrementalAlterConfigsOperationAppend, Value: text("compact")}}, false))
		}},
		{"IncrementalAlterConfig, a bad value", func() (any, error) {
			return nothing(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"cleanup.policy": {Value: text("sweep")}}, false))
		}},
		{"DescribeConfig again", described(sarama.TopicResource, topic, "cleanup.policy", "retention.ms")},
		{"AlterConfig", func() (any, error) {
			return nothing(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"segment.bytes": text("10000000")}, false))
		}},
		{"AlterConfig, no such name", func() (any, error) {
			return nothing(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"no.such": text("1")}, false))
		}},
		{"DescribeConfig at last", described(sarama.TopicResource, topic, "cleanup.policy", "retention.ms", "segment.bytes")},
		{"CreateACL", func() (any, error) { return nothing(admin.CreateACL(resource, rule)) }},
		{"CreateACLs", func() (any, error) {
			second := rule
			second.Operation = sarama.AclOperationWrite
			return nothing(admin.CreateACLs([]*sarama.ResourceAcls{{Resource: resource, Acls: []*sarama.Acl{&second}}}))
		}},
		{"ListAcls", func() (any, error) { return admin.ListAcls(every) }},
		{"DeleteACL", func() (any, error) {
			filter := every
			filter.Principal = text("User:go")
			return admin.DeleteACL(filter, false)
		}},
		{"ElectLeaders", func() (any, error) {
			return admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{topic: {0, 1}})
		}},
		{"ElectLeaders of none", func() (any, error) {
			return admin.ElectLeaders(sarama.UncleanElection, map[string][]int32{"go-missing": {0}})
		}},
		{"AlterConsumerGroupOffsets", func() (any, error) {
			return admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 3}, 2: {Offset: 5}}}, nil)
		}},
		{"ListConsumerGroups", func() (any, error) { return admin.ListConsumerGroups() }},
		{"DescribeConsumerGroups", func() (any, error) { return admin.DescribeConsumerGroups([]string{group, "go-nobody"}) }},
		{"ListConsumerGroupOffsets", func() (any, error) {
			return admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2}})
		}},
		{"ListConsumerGroupOffsetsBatch", func() (any, error) {
			return admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: {topic: {0}}, "go-nobody": {topic: {0}}})
		}},
		{"DeleteConsumerGroupOffset", func() (any, error) { return nothing(admin.DeleteConsumerGroupOffset(group, topic, 0)) }},
		{"RemoveMemberFromConsumerGroup", func() (any, error) { return admin.RemoveMemberFromConsumerGroup(group, []string{"nobody"}) }},
		{"Coordinator", func() (any, error) {
			broker, err := admin.Coordinator(group)
			if err != nil {
				return nil, err
			}
			return broker.ID(), nil
		}},
		{"DeleteConsumerGroup", func() (any, error) { return nothing(admin.DeleteConsumerGroup(group)) }},
		{"DeleteConsumerGroup again", func() (any, error) { return nothing(admin.DeleteConsumerGroup(group)) }},
		{"DescribeCluster", func() (any, error) {
			brokers, controller, err := admin.DescribeCluster()
			ids := []int32{controller}
			for _, broker := range brokers {
				ids = append(ids, broker.ID())
			}
			return ids, err
		}},
		{"Controller", func() (any, error) {
			broker, err := admin.Controller()
			if err != nil {
				return nil, err
			}
			return broker.ID(), nil
		}},
		{"DescribeLogDirs", func() (any, error) { return admin.DescribeLogDirs([]int32{1}) }},
		{"UpsertUserScramCredentials", func() (any, error) {
			return admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{Name: "go", Mechanism: sarama.SCRAM_MECHANISM_SHA_256, Iterations: 8192, Salt: []byte("salt"), Password: []byte("secret")}})
		}},
		{"UpsertUserScramCredentials, few iterations", func() (any, error) {
			return admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{Name: "go", Mechanism: sarama.SCRAM_MECHANISM_SHA_512, Iterations: 1, Salt: []byte("salt"), Password: []byte("secret")}})
		}},
		{"DescribeUserScramCredentials", func() (any, error) { return admin.DescribeUserScramCredentials([]string{"go", "nobody"}) }},
		{"DeleteUserScramCredentials", func() (any, error) {
			return admin.DeleteUserScramCredentials([]sarama.AlterUserScramCredentialsDelete{{Name: "go", Mechanism: sarama.SCRAM_MECHANISM_SHA_256}})
		}},
		{"UpdateFeatures", func() (any, error) {
			return admin.UpdateFeatures([]sarama.FeatureUpdate{{Feature: "no.such", MaxVersionLevel: 1}})
		}},
		{"AlterClientQuotas", func() (any, error) {
			return nothing(admin.AlterClientQuotas([]sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityUser, MatchType: sarama.QuotaMatchExact, Name: "go"}}, sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1000}, false))
		}},
		{"AlterClientQuotas, no such key", func() (any, error) {
			return nothing(admin.AlterClientQuotas([]sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityUser, MatchType: sarama.QuotaMatchExact, Name: "go"}}, sarama.ClientQuotasOp{Key: "no_such", Value: 1000}, false))
		}},
		{"DescribeClientQuotas", func() (any, error) {
			return admin.DescribeClientQuotas([]sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityUser, MatchType: sarama.QuotaMatchAny}}, false)
		}},
		{"DeleteTopic of none", func() (any, error) { return nothing(admin.DeleteTopic("go-missing")) }},
		{"DeleteTopic", func() (any, error) { return nothing(admin.DeleteTopic(topic)) }},
		{"DeleteTopic, assigned", func() (any, error) { return nothing(admin.DeleteTopic("go-assigned")) }},
		{"ListTopics at the end", listed},
	}
	for _, one := range steps {
		answer, err := one.do()
		told := map[string]any{"answer": answer}
		if err != nil {
			told["refused"] = err.Error()
		}
		line, err := json.Marshal(told)
		if err != nil {
			line = []byte(fmt.Sprintf("%q", fmt.Sprintf("%+v", answer)))
		}
		fmt.Printf("%s\t%s\n", one.name, line)
	}
}
