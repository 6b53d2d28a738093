// Researches a topic with Go and its standard library alone: an outline, three sections at once, a
// report. `go run go_research.go "ocean tides"`
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

var angles = []string{"how it works", "its history", "what comes next"}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func write(prompt string) (string, error) {
	body, err := json.Marshal(map[string]any{
		"model":    setting("MODEL", "gpt-5-mini"),
		"messages": []message{{"user", prompt}},
	})
	if err != nil {
		return "", err
	}
	url := setting("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
	var answer struct {
		Choices []struct {
			Message message `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	if len(answer.Choices) == 0 {
		return "", fmt.Errorf("no answer: %s", text)
	}
	return answer.Choices[0].Message.Content, nil
}

func main() {
	topic := strings.Join(os.Args[1:], " ")
	if topic == "" {
		topic = "How do tides form?"
	}
	outline, err := write(fmt.Sprintf("Write an outline about %s.", topic))
	if err != nil {
		log.Fatal(err)
	}
	sections := make([]string, len(angles))
	failures := make([]error, len(angles))
	var group sync.WaitGroup
	for at, angle := range angles {
		group.Add(1)
		go func() {
			defer group.Done()
			prompt := fmt.Sprintf("Outline:\n%s\n\nWrite about %s: %s.", outline, topic, angle)
			sections[at], failures[at] = write(prompt)
		}()
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			log.Fatal(err)
		}
	}
	report, err := write(fmt.Sprintf("Write a report about %s from:\n\n%s", topic, strings.Join(sections, "\n\n")))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report)
}
