#!/usr/bin/env bash
# Installs the harness of this checkout, with its pinned requirements, into an environment of the
# job. First refuses inputs with unknown values. Needs: RUNNER_TEMP, GITHUB_ACTION_PATH,
# HARNESS_INSTALL, HARNESS_FAIL_ON, HARNESS_UPDATE. Writes the output `command`.
set -euo pipefail

case "$HARNESS_FAIL_ON" in
  regression | uncertain | never) ;;
  *)
    echo "::error::fail-on is one of regression, uncertain, never"
    exit 2
    ;;
esac
case "$HARNESS_UPDATE" in
  true | false) ;;
  *)
    echo "::error::update-baseline is true or false"
    exit 2
    ;;
esac
if [ "${RUNNER_OS:-}" = Windows ]; then
  echo "::error::harness runs on Linux and macOS; set runs-on to one of them"
  exit 2
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "::error::harness needs Python 3.11 or newer; set the input python-version, for example to 3.11"
  exit 2
fi

venv="$RUNNER_TEMP/harness/venv"
python="$venv/bin/python"
if [ ! -e "$venv/.installed" ]; then
  python3 -m venv "$venv"
  "$python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    -r "$GITHUB_ACTION_PATH/requirements/setup.txt"
  "$venv/bin/uv" pip install --quiet --python "$python" --require-hashes \
    -r "$GITHUB_ACTION_PATH/requirements/run.txt"
  "$venv/bin/uv" pip install --quiet --python "$python" --no-deps --no-build-isolation \
    "$GITHUB_ACTION_PATH"
  touch "$venv/.installed"
fi

arguments=()
while IFS= read -r line; do
  if [ -n "$line" ]; then arguments+=("$line"); fi
done <<<"${HARNESS_INSTALL:-}"
if [ "${#arguments[@]}" -gt 0 ]; then
  "$venv/bin/uv" pip install --python "$python" "${arguments[@]}"
fi

"$venv/bin/harness" --version
echo "command=$venv/bin/harness" >>"$GITHUB_OUTPUT"
