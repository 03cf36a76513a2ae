// The plain loop: BLPOP, then push, with so many in flight. Popped messages die with the process.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"

	"github.com/redis/go-redis/v9"
)

type message = map[string]json.RawMessage

// request makes the path, the headers and the body of one message.
type request func(message) (string, map[string]string, any, error)

var requests = map[string]request{
	"webhook": webhook,
	"mixed":   webhook,
	"apns":    apns,
	"fcm":     fcm,
}

func webhook(found message) (string, map[string]string, any, error) {
	headers := map[string]string{"Content-Type": "application/json"}
	payload, named := found["payload"]
	if !named {
		return "/hook", headers, found, nil
	}
	var name string
	err := json.Unmarshal(found["provider"], &name)
	return "/" + name, headers, payload, err
}

// One connection, as Apple wants it; a token is made once, so none is made here.
func apns(found message) (string, map[string]string, any, error) {
	var device string
	err := json.Unmarshal(found["device_token"], &device)
	delete(found, "device_token")
	headers := map[string]string{
		"Authorization": "bearer x", "apns-topic": "com.example.app", "apns-push-type": "alert",
	}
	return "/3/device/" + device, headers, found, err
}

func fcm(found message) (string, map[string]string, any, error) {
	headers := map[string]string{"Authorization": "bearer x", "Content-Type": "application/json"}
	return "/v1/projects/bench/messages:send", headers, map[string]message{"message": found}, nil
}

func client(concurrency int) (*http.Client, error) {
	authority, err := os.ReadFile(os.Getenv("BENCH_CA"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: concurrency,
		MaxConnsPerHost:     concurrency,
		TLSClientConfig:     &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2:   true,
	}}, nil
}

func send(http_ *http.Client, url string, make request, element string) error {
	var found message
	if err := json.Unmarshal([]byte(element), &found); err != nil {
		return err
	}
	path, headers, content, err := make(found)
	if err != nil {
		return err
	}
	body, err := json.Marshal(content)
	if err != nil {
		return err
	}
	post, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range headers {
		post.Header.Set(name, value)
	}
	response, err := http_.Do(post)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
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
	sender, err := client(concurrency)
	if err != nil {
		return err
	}
	url, make_ := os.Getenv("BENCH_URL"), requests[os.Getenv("BENCH_WORK")]
	elements := make(chan string)
	for range concurrency {
		go func() {
			for element := range elements {
				if err := send(sender, url, make_, element); err != nil {
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
