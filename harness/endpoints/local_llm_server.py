"""A process that serves a small real model with llama.cpp's own server.

Start it with `python -m harness.endpoints.local_llm_server`.

It listens on a free port of 127.0.0.1, prints `{"base_url": …}` as one line when the model is
loaded, and ends when standard input closes. The API key comes from the environment, so no list of
processes shows it. Requires xllamacpp, which only this process imports.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

import xllamacpp

_ERRORS_ONLY = 1

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and message.reasoning_content %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}
{{- '\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
"""The format of the model (ChatML), with reasoning. The server finds the marks of reasoning in the
template, and sends it as `reasoning_content`, separately from the answer."""


def main() -> None:
    """Serve until standard input closes."""
    options = _parser().parse_args()
    said = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the server may print too
    server = xllamacpp.Server(_parameters(options))  # returns when the model is loaded
    for number in (signal.SIGINT, signal.SIGTERM):  # the server has replaced the handlers
        signal.signal(number, signal.SIG_DFL)
    line = json.dumps({"base_url": f"{server.listening_address}/v1"})
    os.write(said, line.encode() + b"\n")
    os.close(said)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)  # do not wait for requests in service


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.endpoints.local_llm_server")
    for name in ("--key-variable", "--weights", "--name"):
        parser.add_argument(name, required=True)
    for name in ("--context", "--parallel", "--threads"):
        parser.add_argument(name, type=int, required=True)
    return parser


def _parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.weights
    parameters.model_alias = {options.name}
    parameters.n_ctx = options.context * options.parallel  # the server divides it among its slots
    parameters.n_parallel = options.parallel
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [os.environ[options.key_variable]]
    parameters.use_jinja = True
    parameters.chat_template = CHAT_TEMPLATE
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_DEEPSEEK
    # Without a prompt cache, no later cell is faster than an earlier one.
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.fit_params = False
    parameters.ui = False
    parameters.verbosity = _ERRORS_ONLY
    return parameters


if __name__ == "__main__":
    main()
