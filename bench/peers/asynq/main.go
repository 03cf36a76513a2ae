// asynq's server, with net/http; `asynq push` adds tasks instead.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const kind = "push"

type message = map[string]json.RawMessage

type sender struct {
	client *http.Client
	url    string
}

func (s *sender) ProcessTask(ctx context.Context, task *asynq.Task) error {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(task.Payload()))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(post)
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

func serve(redis asynq.RedisConnOpt) error {
	concurrency, err := strconv.Atoi(os.Getenv("BENCH_CONCURRENCY"))
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency}
	mux := asynq.NewServeMux()
	mux.Handle(kind, &sender{&http.Client{Transport: transport}, os.Getenv("BENCH_URL") + "/hook"})
	return asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.WarnLevel}).Run(mux)
}

// Adds tasks, one for each line of standard input: many at once, or each with its own time (`steady`). An empty line is
// answered by one, once all tasks before it are added.
func push(redis asynq.RedisConnOpt, steady bool) error {
	client := asynq.NewClient(redis)
	defer client.Close()
	lines, pending := make(chan []byte, 1000), sync.WaitGroup{}
	for range 32 {
		go func() {
			for line := range lines {
				if _, err := client.Enqueue(asynq.NewTask(kind, line)); err != nil {
					log.Fatal(err)
				}
				pending.Done()
			}
		}()
	}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		line := bytes.Clone(input.Bytes())
		if len(line) == 0 {
			pending.Wait()
			fmt.Println()
			continue
		}
		if steady {
			var found message
			if err := json.Unmarshal(line, &found); err != nil {
				return err
			}
			found["t"] = json.RawMessage(fmt.Sprintf("%.6f", float64(time.Now().UnixMicro())/1e6))
			var err error
			if line, err = json.Marshal(found); err != nil {
				return err
			}
		}
		pending.Add(1)
		lines <- line
	}
	pending.Wait()
	return input.Err()
}

func main() {
	redis, err := asynq.ParseRedisURI(os.Getenv("BENCH_REDIS"))
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "push" {
		err = push(redis, len(os.Args) > 2)
	} else {
		err = serve(redis)
	}
	if err != nil {
		log.Fatal(err)
	}
}
