"""What the finish reasons of all known servers mean: one outcome for each."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.response_reading import FinishMeaning

UNKNOWN_FINISH = "unknown_finish"

_MEANINGS: Mapping[FinishMeaning, tuple[str, ...]] = {
    "ok": (
        "stop", "tool_calls", "tool_call", "tool_use", "function_call", "eos", "eos_token",
        "end_of_sequence", "end_turn", "stop_sequence", "stop_token", "stop_str", "complete",
        "completed", "finished", "done", "</s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>",
        "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>", "<end_of_turn>",
        "<｜end▁of▁sentence｜>",
    ),
    "truncated": (
        "length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens",
        "max_completion_tokens", "model_length", "token_limit", "error_limit", "context_length",
        "context_length_exceeded", "model_context_window_exceeded",
    ),
    "content_filter": (
        "content_filter", "content_filtered", "content_filter_error", "sensitive", "safety",
        "refusal", "recitation", "blocklist", "prohibited_content", "spii", "guardrail_intervened",
        "guardrails", "error_toxic",
    ),
    "aborted": (
        "abort", "aborted", "cancel", "cancelled", "canceled", "user_cancel", "interrupted",
        "disconnect",
    ),
    "server_error": (
        "error", "network_error", "server_error", "internal_error", "internal_server_error",
        "engine_error", "model_error", "timeout", "failed", "overloaded",
    ),
    "insufficient_system_resource": ("insufficient_system_resource",),
}  # fmt: skip
"""Finish reasons in lower case, by the outcome that they stand for."""

_OUTCOMES = {reason: outcome for outcome, reasons in _MEANINGS.items() for reason in reasons}


def outcome_of_finish(reason: str, own: Mapping[str, FinishMeaning]) -> str:
    """Return the outcome that a finish reason stands for, `unknown_finish` for an unknown one.

    `own`: further finish reasons with their outcomes. Case does not matter.
    """
    if reason in own:
        return own[reason]
    name = reason.strip().lower().removeprefix("finish_reason_")
    return _OUTCOMES.get(name, UNKNOWN_FINISH)
