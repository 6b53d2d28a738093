#!/bin/sh
# Asks three questions about a topic at the same time, with curl alone, and prints the answers.
base=${OPENAI_BASE_URL:-https://api.openai.com/v1}
model=${MODEL:-gpt-5-mini}
topic=$(printf %s "${*:-ocean tides}" | sed 's/[\\"]/\\&/g')

ask() {
  curl --silent --show-error --fail-with-body --no-buffer "$base/chat/completions" \
    --header 'content-type: application/json' \
    --header "authorization: Bearer $OPENAI_API_KEY" \
    --data "{\"model\": \"$model\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"$1\"}]}"
}

ask "Explain $topic." & first=$!
ask "Who found out about $topic?" & second=$!
ask "What is not known about $topic?" & third=$!
wait $first && wait $second && wait $third
