// BLPOP, then push through sideshow/apns2, the client of gorush, to one token or to each of a message.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log"
	"os"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"
)

func client() (*apns2.Client, error) {
	authority, err := os.ReadFile(os.Getenv("BENCH_CA"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	made := apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: "ABC123DEFG", TeamID: "DEF123GHIJ"})
	made.HTTPClient.Transport = &http2.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	made.Host = os.Getenv("BENCH_URL")
	return made, nil
}

// pushes returns a notification for each token of an element.
func pushes(element string) ([]*apns2.Notification, error) {
	var found map[string]json.RawMessage
	if err := json.Unmarshal([]byte(element), &found); err != nil {
		return nil, err
	}
	tokens := make([]string, 1)
	var err error
	if targets, many := found["targets"]; many {
		err = json.Unmarshal(targets, &tokens)
	} else {
		err = json.Unmarshal(found["device_token"], &tokens[0])
	}
	if err != nil {
		return nil, err
	}
	delete(found, "device_token")
	delete(found, "targets")
	made := make([]*apns2.Notification, len(tokens))
	for index, token := range tokens {
		made[index] = &apns2.Notification{
			Topic: "com.example.app", PushType: apns2.PushTypeAlert, DeviceToken: token, Payload: found,
		}
	}
	return made, nil
}

func run() error {
	concurrency, err := strconv.Atoi(os.Getenv("BENCH_CONCURRENCY"))
	if err != nil {
		return err
	}
	options, err := redis.ParseURL(os.Getenv("BENCH_REDIS"))
	if err != nil {
		return err
	}
	sender, err := client()
	if err != nil {
		return err
	}
	waiting := make(chan *apns2.Notification)
	for range concurrency {
		go func() {
			for push := range waiting {
				if _, err := sender.Push(push); err != nil {
					log.Fatal(err)
				}
			}
		}()
	}
	queue := redis.NewClient(options)
	for {
		popped, err := queue.BLPop(context.Background(), 0, "bench").Result()
		if err != nil {
			return err
		}
		made, err := pushes(popped[1])
		if err != nil {
			return err
		}
		for _, push := range made {
			waiting <- push
		}
	}
}

func main() {
	log.Fatal(run())
}
