// Sarama: produce and consume in a group, or be refused. The program takes its settings as JSON, and prints a line.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

type settings struct {
	Address, Topic, Ca, Certificate, Mechanism, User, Password string
	Retries, Pause                                             int
	Values                                                     []string
	Create                                                     bool
}

type conversation struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

func (c *conversation) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err == nil {
		c.ClientConversation = client.NewConversation()
	}
	return err
}

func configured(given settings) *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "door"
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = given.Retries
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if given.Ca != "" {
		config.Net.TLS.Enable = true
		authority, err := os.ReadFile(given.Ca)
		if err != nil {
			panic(err)
		}
		config.Net.TLS.Config = &tls.Config{RootCAs: x509.NewCertPool()}
		config.Net.TLS.Config.RootCAs.AppendCertsFromPEM(authority)
		if given.Certificate != "" {
			shown, err := tls.LoadX509KeyPair(given.Certificate, given.Certificate)
			if err != nil {
				panic(err)
			}
			config.Net.TLS.Config.Certificates = []tls.Certificate{shown}
		}
	}
	if given.Mechanism != "" {
		config.Net.SASL.Enable = true
		config.Net.SASL.Mechanism = sarama.SASLMechanism(given.Mechanism)
		config.Net.SASL.User, config.Net.SASL.Password = given.User, given.Password
		hashes := map[string]scram.HashGeneratorFcn{"SCRAM-SHA-256": sha256.New, "SCRAM-SHA-512": sha512.New}
		if hash := hashes[given.Mechanism]; hash != nil {
			config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{hash: hash} }
		}
	}
	return config
}

type reader struct {
	found chan string
	pause time.Duration
}

func (r *reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (r *reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (r *reader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message := <-claim.Messages():
			if message == nil {
				return nil
			}
			time.Sleep(r.pause)
			session.MarkMessage(message, "")
			session.Commit()
			r.found <- string(message.Value)
		case <-session.Context().Done():
			return nil
		}
	}
}

func visit(given settings) (string, error) {
	config := configured(given)
	admin, err := sarama.NewClusterAdmin([]string{given.Address}, config)
	if err != nil {
		return "", err
	}
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}
	if given.Create {
		if err := admin.CreateTopic(given.Topic, detail, false); err != nil {
			return "", err
		}
	}
	producer, err := sarama.NewSyncProducer([]string{given.Address}, config)
	if err != nil {
		return "", err
	}
	defer producer.Close()
	pause := time.Duration(given.Pause) * time.Millisecond
	for number, value := range given.Values {
		if number > 0 {
			time.Sleep(pause)
		}
		message := &sarama.ProducerMessage{Topic: given.Topic, Value: sarama.StringEncoder(value)}
		if _, _, err := producer.SendMessage(message); err != nil {
			return "", err
		}
	}
	group, err := sarama.NewConsumerGroup([]string{given.Address}, given.Topic, config)
	if err != nil {
		return "", err
	}
	defer group.Close()
	one := &reader{make(chan string, len(given.Values)), pause}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			_ = group.Consume(ctx, []string{given.Topic}, one)
		}
	}()
	found := []string{}
	for len(found) < len(given.Values) {
		select {
		case value := <-one.found:
			found = append(found, value)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return strings.Join(found, " "), nil
}

func main() {
	var given settings
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		panic(err)
	}
	value, err := visit(given)
	if err != nil {
		fmt.Printf("refused: %v\n", err)
		return
	}
	fmt.Printf("consumed %s\n", value)
}
