#!/usr/bin/env bash
# Compares the run with the baseline, writes the verdict into the summary of the job, and fails as
# HARNESS_FAIL_ON says. Needs: HARNESS_COMMAND, HARNESS_RUN, HARNESS_BASELINE, HARNESS_UPDATE,
# HARNESS_RULES, HARNESS_FAIL_ON. Writes the output `verdict`.
set -euo pipefail

folder="$(dirname "$HARNESS_RUN")"

# Append what the run measured to the summary, as it was printed.
write_screen() {
  {
    echo '<details><summary>What this run measured</summary>'
    echo
    # An indented block: no character in it is Markdown or HTML.
    sed 's/^/    /' "$folder/screen.txt"
    echo
    echo '</details>'
    echo
  } >>"$GITHUB_STEP_SUMMARY"
}

if [ ! -e "$HARNESS_BASELINE/run.json" ]; then
  "$HARNESS_COMMAND" export "$HARNESS_RUN" --baseline "$HARNESS_BASELINE"
  echo "verdict=no-baseline" >>"$GITHUB_OUTPUT"
  {
    echo '### harness: no baseline, nothing was compared'
    echo
    echo 'The input baseline names a directory without a run. This run is there now: keep it, and'
    echo 'the next run is compared with it.'
    echo
  } >>"$GITHUB_STEP_SUMMARY"
  write_screen
  echo "::warning::harness: no baseline, so nothing was compared; this run is the baseline now"
  if [ "$HARNESS_FAIL_ON" = uncertain ] && [ "$HARNESS_UPDATE" = false ]; then exit 1; fi
  exit 0
fi

arguments=()
while IFS= read -r rule; do
  if [ -n "$rule" ]; then arguments+=("--fail-on=$rule"); fi
done <<<"$HARNESS_RULES"
if [ "$HARNESS_FAIL_ON" = uncertain ]; then arguments+=(--require-power=0.8); fi

code=0
"$HARNESS_COMMAND" compare "$HARNESS_BASELINE" "$HARNESS_RUN" ${arguments[@]+"${arguments[@]}"} \
  --markdown "$folder/comparison.md" 2>"$folder/refused.txt" || code=$?
cat "$folder/refused.txt" >&2
if [ -e "$folder/comparison.md" ]; then
  cat "$folder/comparison.md" >>"$GITHUB_STEP_SUMMARY"
  # The heading ends with the outcome.
  verdict="$(sed -n '1s/^### .*: //p' "$folder/comparison.md" | tr ' ' '-')"
else
  verdict=not-comparable
  {
    echo '### harness: the run cannot be compared with the baseline'
    echo
    sed 's/^/    /' "$folder/refused.txt"
    echo
    echo 'If the change is meant, make a new baseline: see update-baseline.'
    echo
  } >>"$GITHUB_STEP_SUMMARY"
fi
write_screen
echo "verdict=$verdict" >>"$GITHUB_OUTPUT"

if [ "$HARNESS_UPDATE" = true ]; then
  "$HARNESS_COMMAND" export "$HARNESS_RUN" --baseline "$HARNESS_BASELINE"
  echo "The baseline is this run now." >>"$GITHUB_STEP_SUMMARY"
  exit 0
fi
if [ "$code" -ne 0 ]; then
  echo "::error::harness: $verdict; the summary of this job has the changes"
  # Without a comparison the step fails always: never is about what a comparison found.
  if [ "$code" -ne 1 ] || [ "$HARNESS_FAIL_ON" != never ]; then exit "$code"; fi
fi
