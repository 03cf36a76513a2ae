// BLPOP, then push through sideshow/apns2, the client of gorush.
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

func send(sender *apns2.Client, element string) error {
	var found map[string]json.RawMessage
	if err := json.Unmarshal([]byte(element), &found); err != nil {
		return err
	}
	push := &apns2.Notification{Topic: "com.example.app", PushType: apns2.PushTypeAlert}
	if err := json.Unmarshal(found["device_token"], &push.DeviceToken); err != nil {
		return err
	}
	delete(found, "device_token")
	push.Payload = found
	_, err := sender.Push(push)
	return err
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
	elements := make(chan string)
	for range concurrency {
		go func() {
			for element := range elements {
				if err := send(sender, element); err != nil {
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
		elements <- popped[1]
	}
}

func main() {
	log.Fatal(run())
}
