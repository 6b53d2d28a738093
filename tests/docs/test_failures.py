"""docs/failures.md says what the code says, and what the openai package really does."""

from __future__ import annotations

import re

import openai

from benchmarks.failures import DOCUMENT, classes, measure, row_of, table
from benchmarks.sdk_faults import CASES
from harness.records.failures import FAILURES

TEXT = DOCUMENT.read_text()


def shown(name: str) -> list[str]:
    """Return the lines of a table of the document, without its head."""
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    lines: list[str] = found.splitlines()
    return lines[2:]


def test_the_table_of_classes_is_that_of_the_code() -> None:
    assert shown("classes") == classes().splitlines()[2:]


def test_every_fault_has_its_row_and_its_class() -> None:
    begins = [f"| {case.fault} | `{case.outcome}` | " for case in CASES]
    rows = shown("sdk")
    assert len(rows) == len(begins)
    assert all(row.startswith(begin) for row, begin in zip(rows, begins, strict=True))
    assert {case.outcome for case in CASES} == set(FAILURES) - {
        "http_error", "workflow_timeout", "cancelled", "client_error", "too_large",
        "payload_too_large", "failed_dependency", "too_early", "quota_exhausted",
        "client_closed_request", "certificate_error", "proxy_error", "wrong_protocol",
            "unasked_response",
    }  # fmt: skip


def test_the_package_does_what_the_document_says_with_every_fault_that_needs_no_waiting() -> None:
    """Those that time something out, which take a while, are measured by the script alone."""
    cases = [case for case in CASES if not case.timed]
    found = table(("", ""), [row_of(measured) for measured in measure(cases)]).splitlines()[2:]
    rows = dict(zip([case.fault for case in CASES], shown("sdk"), strict=True))
    assert found == [rows[case.fault] for case in cases]


def test_the_document_names_the_version_that_it_was_measured_with() -> None:
    [version] = re.findall(r"version (\d+\.\d+),", TEXT)
    assert openai.VERSION.startswith(f"{version}.")
