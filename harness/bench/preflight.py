"""What must hold before the first record: a directory, a key, enough open files."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from harness.bench.cells import expand
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.trial_share import most_shares
from harness.config.dotenv import with_file
from harness.config.network import check_environment
from harness.config.request_settings import NO_KEY, Secrets
from harness.config.validation_messages import one_line
from harness.engine.shared_policy import own_states
from harness.records.errors import InputError, PreflightError
from harness.store.run_lock import LOCK
from harness.workflows.layout import widest

_OWN_FILES, _FILES_OF_PROCESS = 24, 4
"""Files of a run in virtual time, and of each of its processes."""
_FILES_OF_COMMAND = 16
"""Files of a workflow that is a process: its pipes, and the connections of its gateway."""
_FILES_OF_GATEWAY = 65_536
"""The most files that a gateway asks for, as it does not know how many clients connect."""
_OTHER_FILES = 128
"""Files that are open beside the connections: records, libraries, pipes, the event loop's own."""


def require_free(out: str | None) -> None:
    """Raise PreflightError if there is something at `out`; before what takes longer is checked."""
    if out is None:
        return
    try:
        if any(path.name != LOCK for path in Path(out).iterdir()):
            raise PreflightError(_not_empty(Path(out)))
    except (
        OSError,
        ValueError,
    ):  # it does not exist, or `run_directory` says what is wrong with it
        return


def _not_empty(directory: Path) -> str:
    return f"{directory}: not empty; name a new directory with --out"


def run_directory(name: str, out: str | None) -> Path:
    """Create and return the run's directory; it is new or empty, and can be written to."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = Path(out) if out else Path("results") / f"{stamp}-{name}"
    try:
        directory.mkdir(parents=True, exist_ok=bool(out))
        if any(path.name != LOCK for path in directory.iterdir()):
            raise PreflightError(_not_empty(directory))
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise PreflightError(f"{directory}: exists already; name another with --out") from None
    except (OSError, ValueError) as error:  # the second for a path that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise PreflightError(
            one_line(f"{directory}: cannot be written ({reason}); name another with --out")
        ) from None
    return directory


def secrets(scenario: Scenario, environment: Mapping[str, str]) -> Secrets:
    """Return the secrets for the scenario's endpoint; servers without a key get a placeholder."""
    facts = scenario.endpoint.facts
    key = NO_KEY if facts.key_variable is None else _secret(facts.key_variable, environment)
    others = ((name, _secret(name, environment)) for name in facts.request.variables)
    return Secrets(key, tuple(others))


def environment_for(
    scenarios: Iterable[Scenario], environment: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the environment with what the scenarios need from `.env` in the current folder."""
    for scenario in scenarios:
        for variable in scenario.endpoint.facts.secret_variables:
            environment = with_file(environment, Path(".env"), variable)
    return environment


def _secret(variable: str, environment: Mapping[str, str]) -> str:
    value = environment.get(variable, "").strip()
    if not value:
        raise PreflightError(
            f"{variable}: not set; put the API key into this environment variable or .env"
        )
    if not (value.isascii() and value.isprintable()):
        raise PreflightError(
            f"{variable}: has characters that no header can carry; set the key anew"
        )
    return value


def environment_of(scenario: Scenario) -> None:
    """Raise PreflightError if the proxies or certificates of the environment cannot be used."""
    facts = scenario.endpoint.facts
    if not facts.own_server:
        check_environment(facts.request.ca_file, verify=facts.request.verify)


def enough_files(processes: int) -> None:
    """Raise PreflightError if a run in virtual time cannot open its files."""
    needed = _OWN_FILES + _FILES_OF_PROCESS * processes
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _allows(soft, needed):
        raise PreflightError(
            f"needs {needed} open files, but only {soft} are allowed; raise the limit "
            f"(ulimit -n {needed})"
        )


def open_files(scenario: Scenario) -> None:
    """Make sure that every permit can have a connection: raise the soft limit of open files.

    Raises PreflightError when the hard limit is too low for the scenario's permits.
    """
    needed = min(max(scenario.permit_counts), most_ready(scenario)) + _OTHER_FILES
    needed += _FILES_OF_COMMAND * most_commands(scenario)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if scenario.workflow.is_gateway and _allows(hard, needed):  # its clients are not counted
        needed = max(needed, _FILES_OF_GATEWAY if hard == resource.RLIM_INFINITY else hard)
        needed = min(needed, _FILES_OF_GATEWAY)
    if _allows(soft, needed):
        return
    if _allows(hard, needed):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        except (OSError, ValueError):
            hard = soft
        else:
            return
    raise PreflightError(
        f"sweep.permits = {max(scenario.permit_counts)}: needs {needed} open files, but only "
        f"{hard} are allowed; raise the limit (ulimit -n {needed}) or use fewer permits"
    )


def check_processes(scenario: Scenario, processes: int) -> None:
    """Raise InputError if no trial of a scenario can be run by several processes together."""
    if processes == 1:
        return
    option = f"--processes {processes}"
    if scenario.is_virtual:
        raise InputError(
            f"{option}: divides trials in real time, and the time of this scenario is virtual; "
            "leave it out, or use --jobs to play several trials at once"
        )
    begun = [cell_scenario(scenario, cell) for cell in expand(scenario)]
    if all(
        most_shares(processes, cell.permits, mine.load.planned, mine.load.at_once) == 1
        for cell, mine in zip(expand(scenario), begun, strict=True)
    ):
        raise InputError(
            f"{option}: no setting has two calls and two workflows at once, which processes could "
            "divide; leave it out, or raise sweep.permits and load.in_flight"
        )
    for cell, mine in zip(expand(scenario), begun, strict=True):
        policy = mine.policy(cell.retry).build(mine.time_scale, mine.endpoint.stream)
        if any(own_states(layer) is None for layer in policy.layers):
            raise InputError(
                f"{option}: the policy {cell.retry!r} has a layer whose state processes cannot "
                "share; keep it in harness.policies.layers.States, or leave out one of the two"
            )


def most_commands(scenario: Scenario) -> int:
    """Return the most workflows in flight that are processes."""
    own = [cell_scenario(scenario, cell) for cell in expand(scenario)]
    return max(mine.load.at_once if mine.workflow.is_process else 0 for mine in own)


def most_ready(scenario: Scenario) -> int:
    """Return the most calls that the workflows in flight can have ready at the same time.

    As many as there are permits where that is not known.
    """
    own = [cell_scenario(scenario, cell) for cell in expand(scenario)]
    return max(
        mine.load.at_once * widest(mine.layout)
        if mine.workflow.knows_calls
        else max(mine.permit_counts)
        for mine in own
    )


def _allows(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed
