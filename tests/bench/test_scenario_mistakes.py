"""Mistakes in scenario files: one clear line for each."""

from __future__ import annotations

import pytest

from harness.bench.scenario_file import parse_scenario
from harness.records.errors import InputError
from tests.bench.examples import FULL, HEAD, LIVE


def complaint(text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_scenario(text, "file.toml", overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            "name = ",
            "invalid TOML: Invalid value (at end of document); correct it",
            id="nothing after =",
        ),
        pytest.param(
            HEAD + "a = " + "9" * 5000,
            "invalid TOML: Exceeds the limit (4300 digits) for integer string conversion: "
            "value has 5000 digits; use sys.set_int_max_str_digits() to increase the "
            "limit; correct it",
            id="digits",
        ),
        pytest.param(
            HEAD + "a = " + "[" * 3000,
            "invalid TOML: nested too deeply; correct it",
            id="deeper than can be read",
        ),
        pytest.param("[workflow]\ntopics = 'a'\n", "name: missing; add it", id="no name"),
        pytest.param("name = 'x'\n", "workflow: missing; add it", id="no workflow"),
        pytest.param(
            "name = 'x'\n[workflow]\n", "workflow.topics: missing; add it", id="no topics"
        ),
        pytest.param(
            "sed = 7\n" + HEAD,
            "sed: unknown key (did you mean 'seed'?); known here: budget, description, endpoint, ",
            id="unknown key at the top",
        ),
        pytest.param(
            HEAD + "sub_question = 3\n",
            "workflow.sub_question: unknown key (did you mean 'sub_questions'?); known here: ",
            id="unknown key in a section",
        ),
        pytest.param(
            HEAD + "max_tokens = { decompos = 3 }\n",
            "workflow.max_tokens.decompos: unknown key (did you mean 'decompose'?); known here: "
            "decompose, research, synthesize",
            id="unknown key in a table of a section",
        ),
        pytest.param(
            HEAD + "[endpoint]\nprofil = 'x'\n",
            "endpoint.profil: unknown key (did you mean 'profile'?); known here: client, faults, "
            "kind, ",
            id="unknown key of an endpoint, whose kind is a default",
        ),
        pytest.param(
            LIVE + "time_scale = 0.1\n",
            "endpoint.time_scale: is no key of kind 'openai', but of 'simulated'; remove it, or "
            "change the kind; `harness run --endpoint URL --model M` replaces the whole section",
            id="key of another kind of endpoint",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stal'\nprobability = 0.1\n",
            "endpoint.faults[0].kind = 'stal': unknown fault (did you mean 'stall'?); use "
            "one of: bad_gateway, bad_request, blank_bod",
            id="unknown fault",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\nprobabilty = 0.1\n",
            "endpoint.faults[0].probabilty: unknown key (did you mean 'probability'?); "
            "known here: after, arrivals, at, burst, kind, outage, phases, probability, "
            "retry_after",
            id="unknown key of a fault",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\noutage = { start = 1, duration = 'x' }\n",
            "endpoint.faults[0].outage.duration = 'x': must be a duration, such as "
            '"500ms", "1.2s" or "2m", '
            "or a number of seconds",
            id="duration of a fault",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\n",
            "endpoint.faults[0] = {'kind': 'stall'}: must say when; add probability = 0.1, "
            "or arrivals = 1, or a burst, or an outage",
            id="fault without a when",
        ),
        pytest.param(
            HEAD + "[endpoint]\nstream = false\n"
            "[[endpoint.faults]]\nkind = 'stall'\nprobability = 0.1\n",
            "endpoint.faults[0].kind = 'stall': affects only streams, and endpoint.stream "
            "is false; set that to true, or remove the fault",
            id="fault of streams without streams",
        ),
        pytest.param(
            HEAD + FULL + "bas = 1\n",
            "retry.full.bas: unknown key (did you mean 'base'?); known here: attempts, base, cap, ",
            id="unknown key of a policy",
        ),
        pytest.param(
            HEAD + '"a\\nb\\u001b" = 1\n',
            'workflow."a\\nb\\u001b": unknown key; known here: carry_reasoning, carry_tokens, '
            "kind, max_tokens, on_branch_failure, quorum, sub_questions, topics, topics_file",
            id="key with line break and escape",
        ),
        pytest.param(
            HEAD + "[load]\nworkflows = '8'\n",
            "load.workflows = '8': must be a whole number",
            id="text for a number",
        ),
        pytest.param(
            HEAD + "[load]\nworkflows = 8.0\n",
            "load.workflows = 8.0: must be a whole number",
            id="fraction for a whole number",
        ),
        pytest.param(
            HEAD + "[load]\nworkflows = true\n",
            "load.workflows = true: must be a whole number",
            id="truth for a number",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\narrivals = true\n",
            "endpoint.faults[0].arrivals = true: must be a whole number",
            id="truth for a number of a fault",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\nburst = { on = '1ns', off = '1s' }\n",
            "endpoint.faults[0].burst.on = '1ns': must be at least 0.001",
            id="burst of more changes than can be played",
        ),
        pytest.param(
            HEAD + "[endpoint]\ntime_scale = 1e-12\n",
            "endpoint.time_scale = 1e-12: must be at least 0.000001",
            id="scale at which a second is no nanosecond",
        ),
        pytest.param(
            HEAD + f"max_tokens = {{ research = {10**400} }}\n",
            "workflow.max_tokens.research = 1000000000",
            id="more tokens than can be reckoned with",
        ),
        pytest.param(
            HEAD + f"[budget]\ntokens = {10**400}\n",
            "budget.tokens = 1000000000",
            id="a larger budget than can be reckoned with",
        ),
        pytest.param(
            HEAD + FULL + f"attempts = {10**400}\n",
            "retry.full.attempts = 1000000000",
            id="more attempts than can be reckoned with",
        ),
        pytest.param(
            HEAD + "[load]\narrivals = { per_second = 1e-320 }\n",
            "load.arrivals.per_second = 1e-320: must be at least 0.000001",
            id="arrivals that never come",
        ),
        pytest.param(
            HEAD + "carry_reasoning = 'yes'\n",
            "workflow.carry_reasoning = 'yes': must be true or false",
            id="text for a truth",
        ),
        pytest.param(
            "name = 7\n" + HEAD.partition("\n")[2],
            "name = 7: must be text in quotes",
            id="number for a text",
        ),
        pytest.param(
            "load = 3\n" + HEAD,
            "load = 3: must be a table; write [load] with its keys below it",
            id="no table",
        ),
        pytest.param(
            "retry = 3\n" + HEAD,
            "retry = 3: must be a table; write [retry] with its keys below it",
            id="no tables",
        ),
        pytest.param(
            HEAD + "[retry]\nx = 3\n",
            "retry.x = 3: must be a table; write [retry.x] with its keys below it",
            id="no table of a policy",
        ),
        pytest.param(
            "endpoint = 'openai'\n" + HEAD,
            "endpoint = 'openai': must be a table; write [endpoint] with its keys below it",
            id="no table of an endpoint",
        ),
        pytest.param(
            HEAD + "[sweep]\npermits = { a = 1 }\n",
            "sweep.permits = {'a': 1}: must be a list, such as [1, 2]",
            id="table for a list",
        ),
        pytest.param(
            HEAD + "[sweep]\npermits = [2, -1]\n",
            "sweep.permits[1] = -1: must be at least 1",
            id="negative permits",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 0\n",
            "sweep.repeats = 0: must be a whole number of at least 1, or 'auto'",
            id="no repeats",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 'atuo'\n",
            "sweep.repeats = 'atuo': must be a whole number of at least 1, or 'auto'",
            id="repeats in other words",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 'auto'\nmax_repeats = 2\n",
            "sweep.max_repeats = 2: must be at least 3",
            id="a limit below the repeats of a lead",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 3\nmax_repeats = 9\n",
            "sweep.max_repeats = 9: has no effect with repeats = 3; set repeats = 'auto', or "
            "remove it",
            id="a limit of a fixed number of repeats",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 'auto'\n[objective]\nminimise = 'workflow_p95'\n",
            "sweep.repeats = 'auto': with 'auto', the 95th percentile needs at least 13 workflows "
            "in a repeat; raise load.workflows, or give a number of repeats",
            id="too few workflows for a percentile in any repeat",
        ),
        pytest.param(
            HEAD + "[sweep]\npermits = 0\n",
            "sweep.permits = 0: must be at least 1",
            id="no permits, without a list",
        ),
        pytest.param(
            HEAD + "[load]\nworkflows = 1000001\n",
            "load.workflows = 1000001: must be at most 1000000",
            id="more than can be meant",
        ),
        *(
            pytest.param(
                HEAD + f"[sweep]\n{key} = []\n",
                f"sweep.{key} = []: must not be empty; give at least one value",
                id=f"empty {key}",
            )
            for key in ("mode", "permits", "retry", "permit_scope")
        ),
        pytest.param(
            "name = 'x'\n[workflow]\ntopics = []\n",
            "workflow.topics = []: must not be empty; give at least one value",
            id="no topic",
        ),
        pytest.param(
            "name = 'x'\n[workflow]\ntopics = ['a', ' ']\n",
            "workflow.topics[1] = ' ': must not be blank; write text, or remove the key",
            id="blank topic",
        ),
        pytest.param(
            HEAD + "[sweep]\npermits = [2, 2]\n",
            "sweep.permits = [2, 2]: duplicate value; remove one",
            id="the same permits twice",
        ),
        pytest.param(
            HEAD + "[sweep]\nmode = ['sync', 'sync']\n",
            "sweep.mode = ['sync', 'sync']: duplicate value; remove one",
            id="the same mode twice",
        ),
        pytest.param(
            HEAD + "[sweep]\npermit_scope = ['call', 'call']\n",
            "sweep.permit_scope = ['call', 'call']: duplicate value; remove one",
            id="the same scope twice",
        ),
        pytest.param(
            HEAD + FULL + "[retry.FULL]\nkind = 'none'\n[sweep]\nretry = ['full', 'FULL']\n",
            "sweep.retry = ['full', 'FULL']: duplicate value; remove one",
            id="names that a file system may not tell apart",
        ),
        pytest.param(
            HEAD + "[sweep]\nmode = ['parallel']\n",
            "sweep.mode[0] = 'parallel': must be 'sync', 'serial', 'threads' or 'async'",
            id="unknown mode",
        ),
        pytest.param(
            HEAD + "[sweep]\nretry = ['ful']\n" + FULL,
            "sweep.retry[0] = 'ful': unknown policy (did you mean 'full'?); describe it in "
            "[retry.ful], or use one of: aws-standard, full, none, openai-sdk",
            id="unknown policy",
        ),
        pytest.param(
            HEAD + "[retry.a_b]\nkind = 'none'\n",
            "retry.a_b: must have at most 64 letters, digits, '.' and '-', and begin with "
            "a letter or digit",
            id="name that would break a cell's id",
        ),
        pytest.param(
            "name = 'x" + "x" * 64 + "'\n" + HEAD.partition("\n")[2],
            "name = '" + "x" * 56 + "...: must have at most 64 letters",
            id="name that is too long, and shown in part",
        ),
        pytest.param(
            "name = '../x'\n" + HEAD.partition("\n")[2],
            "name = '../x': must have at most 64 letters, digits, '.' and '-', and begin "
            "with a letter or digit",
            id="name that would leave the directory",
        ),
        pytest.param(
            HEAD + "[timeouts]\ncall = '5 minutes'\n",
            'timeouts.call = \'5 minutes\': must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
            id="bad duration",
        ),
        pytest.param(
            HEAD + "[timeouts]\ncall = '-5s'\n",
            'timeouts.call = \'-5s\': must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
            id="negative duration",
        ),
        pytest.param(
            HEAD + "[timeouts]\ncall = 0\n",
            "timeouts.call = 0: must be greater than 0",
            id="no time at all",
        ),
        pytest.param(
            HEAD + "[timeouts]\ncall = nan\n",
            "timeouts.call = nan: must be greater than 0",
            id="no number",
        ),
        pytest.param(
            HEAD + "[timeouts]\ncall = '25h'\n",
            "timeouts.call = '25h': must be at most 86400",
            id="more than a day",
        ),
        pytest.param(
            HEAD + "[slo]\nsuccess_rate = 99\n",
            "slo.success_rate = 99: must be at most 1",
            id="percent for a rate",
        ),
        pytest.param(
            HEAD + "[success]\nmin_branches = 5\n",
            "success.min_branches = 5: no workflow could succeed; a workflow has 4 branches",
            id="success out of reach",
        ),
        pytest.param(
            HEAD + "sub_questions = 1001\n",
            "workflow.sub_questions = 1001: must be 1 to 1000 branches",
            id="too many branches",
        ),
        pytest.param(
            HEAD + "sub_questions = []\n",
            "workflow.sub_questions = []: must be 1 to 1000 branches",
            id="no question",
        ),
        pytest.param(
            HEAD + "sub_questions = 'Why?'\n",
            "workflow.sub_questions = 'Why?': must be a number of branches, or a list of texts",
            id="one question without a list",
        ),
        pytest.param(
            HEAD + "sub_questions = ['Why?', 3]\n",
            "workflow.sub_questions[1] = 3: must be a text that is not blank",
            id="a question that is no text",
        ),
        pytest.param(
            HEAD + "sub_questions = ['Why {topics}?']\n",
            "workflow.sub_questions[0] = 'Why {topics}?': unknown placeholder {topics} (did you "
            "mean {topic}?); known here: {topic}",
            id="a question with an unknown field",
        ),
        pytest.param(
            HEAD + "on_branch_failure = 'quorum'\n",
            "workflow.on_branch_failure = 'quorum': requires workflow.quorum; add it, for "
            "example quorum = 0.8",
            id="a quorum of nothing",
        ),
        pytest.param(
            HEAD + "quorum = 3\n",
            'workflow.quorum = 3: has no effect; set workflow.on_branch_failure = "quorum"',
            id="a quorum for nothing",
        ),
        pytest.param(
            HEAD + "on_branch_failure = 'quorum'\nquorum = 5\n",
            "workflow.quorum = 5: there are 4 branches (workflow.sub_questions); write 1 to 4",
            id="a quorum out of reach",
        ),
        pytest.param(
            HEAD + "on_branch_failure = 'quorum'\nquorum = 0\n",
            "workflow.quorum = 0: there are 4 branches",
            id="a quorum of none",
        ),
        pytest.param(
            HEAD + "on_branch_failure = 'quorum'\nquorum = 1.5\n",
            "workflow.quorum = 1.5: a fraction must be greater than 0 and at most 1.0; for "
            "a number of branches, write a whole number",
            id="a quorum of more than all",
        ),
        pytest.param(
            HEAD + "quorum = 'most'\n",
            "workflow.quorum = 'most': must be a number of branches, or a fraction of them "
            "such as 0.8",
            id="a quorum in words",
        ),
        *(
            pytest.param(
                HEAD + f"[endpoint]\nclient = 'wire'\n[sweep]\nmode = ['async', '{mode}']\n",
                f"endpoint.client = 'wire': has no mode '{mode}'; use the modes 'async' and "
                "'serial', or client = 'openai'",
                id=f"the wire client in mode {mode}",
            )
            for mode in ("sync", "threads")
        ),
        pytest.param(
            HEAD + "[endpoint]\nclient = 'wire'\ntime = 'virtual'\n[sweep]\nmode = ['async']\n",
            "endpoint.client = 'wire': sends requests in real time only; remove it, or use "
            "endpoint.time = 'real'",
            id="the wire client in virtual time",
        ),
        pytest.param(
            HEAD + "[sweep]\nmode = ['sync']\n'endpoint.client' = ['openai', 'wire']\n",
            "sweep.\"endpoint.client\"[1] = 'wire': has no mode 'sync'",
            id="the wire client among others in mode sync",
        ),
        pytest.param(
            "question = 'permits'\n" + HEAD + "[sweep]\n'endpoint.client' = ['openai', 'wire']\n",
            "question = 'permits': no setting is recommended among several clients; use one "
            "client, or 'client'",
            id="a question about a setting of several clients",
        ),
        pytest.param(
            HEAD + "[sweep]\nrepeats = 'auto'\n'endpoint.client' = ['openai', 'wire']\n",
            "sweep.\"endpoint.client\" = ['openai', 'wire']: no setting is recommended among "
            "several clients, so a tune or repeats = 'auto' has no end; use one client, or a "
            "number of repeats",
            id="repeats of several clients without an end",
        ),
        pytest.param(
            HEAD + "[endpoint]\nclient = 'wires'\n",
            "endpoint.client = 'wires': must be 'openai' or 'wire'",
            id="an unknown client",
        ),
        pytest.param(
            HEAD + "[prompts]\nresarch = 'words.txt'\n",
            "prompts.resarch: unknown key (did you mean 'research'?); known here: decompose, "
            "research, synthesize",
            id="a prompt that the kind has not",
        ),
        pytest.param(
            HEAD + "[[endpoint.faults]]\nkind = 'stall'\nprobability = 1\nphases = ['reserch']\n",
            "endpoint.faults[0].phases[0] = 'reserch': unknown phase (did you mean 'research'?); "
            "use one of: decompose, research, synthesize",
            id="a fault for a phase that the kind has not",
        ),
        pytest.param(
            LIVE + "extra_body_by_phase.decompos = { seed = 1 }\n",
            "endpoint.extra_body_by_phase.decompos: unknown key (did you mean 'decompose'?); known "
            "here: decompose, research, synthesize",
            id="a body for a phase that the kind has not",
        ),
        pytest.param(
            HEAD + "kind = 'reserch'\n",
            "workflow.kind = 'reserch': unknown kind (did you mean 'research'?); use one of: ",
            id="wrong kind of workflow",
        ),
        pytest.param(
            HEAD + "[endpoint]\nkind = 'opnai'\n",
            "endpoint.kind = 'opnai': unknown kind (did you mean 'openai'?); use one of: local-llm",
            id="wrong kind of endpoint",
        ),
        pytest.param(
            HEAD + "[endpoint]\nkind = [1]\n",
            "endpoint.kind = [1]: unknown kind; use one of: local-llm, openai, simulated",
            id="kind that is no text",
        ),
        pytest.param(
            HEAD + "[endpoint]\nbase_url = 'https://api.test'\nmodel = 'm'\n",
            "endpoint.kind: missing; add it",
            id="live endpoint without its kind",
        ),
        pytest.param(
            HEAD + "[retry.x]\nkind = 'expo'\n",
            "retry.x.kind = 'expo': unknown kind; use one of: aws-standard, breaker, "
            "exponential, finagle-budget, fixed, ",
            id="wrong kind of policy",
        ),
        pytest.param(HEAD + "[retry.x]\n", "retry.x.kind: missing; add it", id="policy of no kind"),
        pytest.param(
            LIVE.replace("https://api.test/v1", "api.test"),
            "endpoint.base_url = 'api.test': must be a URL such as \"https://api.example.com/v1\"",
            id="URL without its scheme",
        ),
        pytest.param(
            LIVE.replace("api.test", "api.test:0"),
            "endpoint.base_url = 'https://api.test:0/v1': must be a URL such as "
            '"https://api.example.com/v1"',
            id="port that nobody can have",
        ),
        pytest.param(
            LIVE.replace("api.test", "[::1"),
            "endpoint.base_url = 'https://[::1/v1': must be a URL such as "
            '"https://api.example.com/v1"',
            id="URL that cannot be taken apart",
        ),
        pytest.param(
            LIVE + "api_key_env = 'sk-0123'\n",
            "endpoint.api_key_env: must be the name of an environment variable; name the "
            "one that holds the API key",
            id="the key where its variable belongs",
        ),
        pytest.param(
            LIVE.replace("api.test", "me:secret@api.test"),
            "endpoint.base_url: must not have a user or password; name the variable of the "
            "key in api_key_env",
            id="password in the URL",
        ),
        pytest.param(
            LIVE.replace("https://api.test", "me:secret@api.test"),
            'endpoint.base_url: must be a URL such as "https://api.example.com/v1"',
            id="password in what is no URL",
        ),
        pytest.param(
            LIVE.replace("api.test/v1", "api.test/v1?key=secret"),
            "endpoint.base_url: must not have a query or fragment; remove it",
            id="key in the URL",
        ),
        pytest.param(
            LIVE + "extra_body = { since = 2020-01-01 }\n",
            "endpoint.extra_body = {'since': datetime.date(2020, 1, 1)}: cannot be sent as JSON",
            id="body that is no JSON",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_key_value_and_way_out(text: str, line: str) -> None:
    said = complaint(text)
    assert said.startswith(f"file.toml: {line}")
    assert len(said.splitlines()) == 1
    assert "sk-0123" not in said
    assert "secret" not in said


def test_broken_toml_says_where_it_is_broken() -> None:
    said = complaint(HEAD + "[load\nin_flight = 2\n")
    assert said.startswith("file.toml: invalid TOML: ")
    assert said.endswith(" (at line 4, column 6); correct it")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("load.workflows", "--set load.workflows: must have the form KEY=VALUE"),
        ("=3", "--set =3: must have the form KEY=VALUE"),
        ("name.first=3", "--set name.first=3: name is not a table; correct the key"),
        ("load.workflows=many", "--set load.workflows = 'many': must be a whole number"),
        (
            "load.workflow=3",
            "--set load.workflow: unknown key (did you mean 'workflows'?); known here: "
            "arrivals, in_flight, warmup_calls, workflows",
        ),
        (
            "loud.workflows=3",
            "--set loud: unknown key (did you mean 'load'?); known here: budget, "
            "description, endpoint, keep_error_bodies, load, name, objective, permits, prompts, "
            "question, records, retry, seed, slo, success, sweep, timeouts, transcripts, tune, "
            "workflow",
        ),
        ("sweep.permits=[1, 0]", "--set sweep.permits[1] = 0: must be at least 1"),
        (
            "sweep.retry=ful",
            "--set sweep.retry = 'ful': unknown policy; describe it in [retry.ful], or use "
            "one of: aws-standard, none, openai-sdk",
        ),
        (
            "endpoint.kind=opnai",
            "--set endpoint.kind = 'opnai': unknown kind (did you mean 'openai'?); use one "
            "of: local-llm, openai, simulated",
        ),
        (
            "load.workflows=" + "9" * 5000,
            "--set load.workflows = "
            "'99999999999999999999999999999999999999999999999999999999...: must be a whole "
            "number",
        ),
        (
            "load.workflows=" + "[" * 3000,
            "--set load.workflows = "
            "'[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...: must be a whole "
            "number",
        ),
        ("a\nb", "--set a b: must have the form KEY=VALUE"),
        ("name=", "--set name: missing; add it"),
        ("load.workflows=", "--set load.workflows=: load.workflows is not set, so it cannot"),
        ("loud.workflows=", "--set loud.workflows=: loud.workflows is not set, so it cannot"),
    ],
)
def test_a_mistake_in_an_override_is_blamed_on_it(override: str, line: str) -> None:
    said = complaint(HEAD, "seed=3", override)
    assert said.startswith(line)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("swept", "override"),
    [
        ("workflow.sub_questions", "workflow.sub_questions=3"),
        ("endpoint.override", "endpoint.override.concurrency_cap=4"),
    ],
)
def test_an_override_of_a_swept_key_is_refused(swept: str, override: str) -> None:
    option = "{ concurrency_cap = 2 }" if swept == "endpoint.override" else "2"
    text = HEAD + f'[sweep]\n"{swept}" = [{option}]\n'
    assert complaint(text, override) == (
        f'--set {override}: the sweep has that key; set sweep."{swept}" instead'
    )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "workflow.kind=agent",
            "--set workflow.kind=agent: workflow.sub_questions: unknown key; known here: "
            "carry_reasoning, ",
        ),
        ("workflow.kind=program", "--set workflow.kind=program: workflow.sub_questions: unknown"),
        ("retry.mine.kind=none", "--set retry.mine.kind=none: retry.mine.attempts: unknown key; "),
    ],
)
def test_keys_that_a_changed_kind_does_not_have_are_blamed_on_the_change(
    override: str, line: str
) -> None:
    text = HEAD + "sub_questions = 2\n[retry.mine]\nkind = 'exponential'\nattempts = 3\n"
    said = complaint(text, override)
    assert said.startswith(line)
    table, _, kind = override.partition(".kind=")
    assert said.endswith(f"give the table of this kind: --set '{table}={{kind = \"{kind}\", ...}}'")


def test_an_override_can_change_the_values_of_a_swept_key() -> None:
    text = HEAD + '[sweep]\n"workflow.sub_questions" = [2, 3]\n'
    scenario = parse_scenario(text, "file.toml", ['sweep."workflow.sub_questions"=[4, 5]'])
    assert scenario.sweep.settings == {"workflow.sub_questions": (4, 5)}


def test_an_override_never_shows_a_key_that_was_given_in_the_wrong_place() -> None:
    assert "sk-0123" not in complaint(LIVE, "endpoint.api_key_env=sk-0123")


def test_an_override_without_a_value_removes_the_key_that_the_error_names() -> None:
    text = HEAD + '[sweep]\nrepeats = "auto"\nmax_repeats = 9\n'
    said = complaint(text, "sweep.repeats=2")
    assert said.endswith("has no effect with repeats = 2; set repeats = 'auto', or remove it "
                         "(--set sweep.max_repeats= removes it)")  # fmt: skip
    scenario = parse_scenario(text, "file.toml", ["sweep.repeats=2", "sweep.max_repeats="])
    assert (scenario.sweep.repeats, scenario.sweep.max_repeats) == (2, None)
    swept = HEAD + '[sweep]\n"workflow.sub_questions" = [2, 3]\n'
    scenario = parse_scenario(swept, "file.toml", ['sweep."workflow.sub_questions"='])
    assert scenario.sweep.settings == {}
