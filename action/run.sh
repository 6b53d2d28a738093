#!/usr/bin/env bash
# Runs the scenario. Needs: RUNNER_TEMP, HARNESS_COMMAND, HARNESS_SCENARIO, HARNESS_ARGUMENTS.
# Writes the output `run`; the summary says so if the run fails.
set -euo pipefail

folder="$(mktemp -d "$RUNNER_TEMP/harness/run.XXXXXX")"
arguments=()
while IFS= read -r line; do
  if [ -n "$line" ]; then arguments+=("$line"); fi
done <<<"${HARNESS_ARGUMENTS:-}"
echo "run=$folder/run" >>"$GITHUB_OUTPUT"

code=0
{
  "$HARNESS_COMMAND" run --out "$folder/run" ${arguments[@]+"${arguments[@]}"} \
    -- "$HARNESS_SCENARIO" 2>&1 >&3 | tee "$folder/errors.txt" >&2
} 3>&1 | tee "$folder/screen.txt" || code=$?
if [ "$code" -ne 0 ]; then
  {
    echo "### harness: the run failed with exit code $code"
    echo
    echo 'Nothing was compared. The last lines of the run:'
    echo
    # An indented block: no character in it is Markdown or HTML.
    cat "$folder/screen.txt" "$folder/errors.txt" | tail -n 20 | sed 's/^/    /'
    echo
  } >>"$GITHUB_STEP_SUMMARY"
  exit "$code"
fi
