"""`harness init`: writes a scenario with comments, which runs as it is."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from harness.bench.own_endpoint import OwnEndpoint
from harness.bench.scenario_file import parse_scenario
from harness.cli.first_answer import NOTHING, Learned, learn, most_tokens
from harness.cli.run import own_endpoint
from harness.config.config_base import name_of_file
from harness.records.errors import InputError

_HEAD = """\
# How many calls at once, and which retry policy? {file} can be run as it is:
#
#   harness run {file} --dry-run     # shows the settings, the calls and the time
#   harness run {file}
#
# `harness scenarios` lists examples for other questions.
name = {name}
description = ""
seed = 7                         # of all random draws

[workflow]
kind = "research"                # split a topic, research the parts at once, write a report
topics = ["ocean tides", "battery recycling", "river deltas", "night trains"]
{questions}
"""

_COUNTED = "sub_questions = 4                # calls of a workflow that can run at once"
_GIVEN = """\
# The server was asked once, and its answer has no sub-questions that can be read, as with servers
# for load tests. So the questions are given here: calls of a workflow that can run at once.
sub_questions = [
    "What causes {topic}?",
    "Who studies {topic}?",
    "What does {topic} cost?",
    "What is the future of {topic}?",
]"""
_MOST_TOKENS = (("decompose", 6000, 4), ("research", 12000, 8), ("synthesize", 12000, 4))
"""Setting, tokens of an answer, and into how many parts a short context is divided for them.

The prompt of the last call contains four answers of `research`.
"""
TOPIC, BRANCHES = "ocean tides", 4
"""What a server is asked about."""

_OWN = """\
# The most tokens of an answer, reasoning included. An answer that is cut off is lost work, so leave
# room; {context}.
max_tokens = {{ decompose = {decompose}, research = {research}, synthesize = {synthesize} }}

[endpoint]
kind = "openai"                  # any OpenAI-compatible API
base_url = {base_url}
model = {model}
{key}
# price = {{ input = 0.30, output = 1.20 }}   # USD per million tokens: shows and limits the cost
# extra_body = {{ thinking = {{ type = "enabled" }} }}   # more keys of each request

[load]
workflows = 4                    # in each trial
in_flight = 2                    # at once, so up to 8 calls are ready at the same time

[timeouts]
first_token = "5m"
call = "10m"

[sweep]                          # every combination is one setting
mode = ["async"]                 # also "sync", one call at a time, and "threads"
permits = [2, 4, 8]              # requests at once
retry = ["openai-sdk"]           # also "patient", which is described below
repeats = 2                      # more repeats prove more; "auto": as many as the answer needs

[retry.patient]
kind = "exponential"
jitter = "full"
attempts = 8
base = "1s"
cap = "20s"

[budget]                         # the run stops before it exceeds this
attempts = 300
"""

_SIMULATED = """\

[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"    # `harness serve --list` shows the profiles
override = {{ concurrency_cap = 5 }}   # more requests at once get 429
time = "virtual"                 # no waiting; "real" sends HTTP requests on this machine

[load]
workflows = 20                   # in each trial
in_flight = 2                    # at once, so up to 8 calls are ready at the same time

[sweep]                          # every combination is one setting
mode = ["sync", "async"]         # also "threads", in real time
permits = [2, 4, 8]              # requests at once; sync has one
retry = ["openai-sdk", "patient"]
repeats = 5                      # more repeats prove more; "auto": as many as the answer needs

[retry.patient]
kind = "exponential"
jitter = "full"
attempts = 8
base = "1s"
cap = "20s"

[slo]
success_rate = 0.9               # a setting that loses more workflows is not recommended
"""


def write_scenario(options: argparse.Namespace) -> int:
    """Write a new scenario file, and print the command that runs it."""
    path = Path(options.file)
    if not path.name.isprintable():
        raise InputError(f"-o {path}: not a name that can be printed; choose another -o FILE")
    own = own_endpoint(options)
    for option, value in () if own is None else (("endpoint", own.base_url), ("model", own.model)):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise InputError(f"--{option} {value}: not valid UTF-8; write it with other characters")
    text = scenario_text(path, own)
    scenario = parse_scenario(text, options.file, folder=path.parent)
    if own is not None and not path.exists():
        text = scenario_text(path, own, learn(scenario, TOPIC, BRANCHES))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path}: exists already; name a new file with -o FILE") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists "
            "and can be written to with -o FILE"
        ) from None
    print(f"{path}\nNext: harness run {shlex.quote(str(path))}")
    return 0


def scenario_text(path: Path, own: OwnEndpoint | None, learned: Learned = NOTHING) -> str:
    """Return the text of a new scenario, which is named after its file.

    `learned`: about the endpoint. If its answers lack questions, the scenario has them itself.
    """
    name = name_of_file(path, "mine")
    head = _HEAD.format(
        file=shlex.quote(path.name),
        name=json.dumps(name),
        questions=_GIVEN if learned.lacks_questions else _COUNTED,
    )
    if own is None:
        return head + _SIMULATED.format()
    key = (
        '# api_key_env = "MY_API_KEY"    # the environment variable, or name in .env, of the key'
        if own.key_variable is None
        else f"api_key_env = {json.dumps(own.key_variable)}"
    )
    base_url, model = json.dumps(own.base_url), json.dumps(own.model)
    context = learned.context
    return head + _OWN.format(
        base_url=base_url,
        model=model,
        key=key,
        context="a model with a short context needs less"
        if context is None
        else f"the server's context has {context} tokens, for a prompt and its answer",
        **{name: most_tokens(most, context, parts) for name, most, parts in _MOST_TOKENS},
    )
