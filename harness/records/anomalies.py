"""The anomalies: what a server does against the protocol although its answer can be read.

An attempt's record has the names of the anomalies of its response. With `endpoint.strict`, an
answer with an anomaly is a failure.
"""

from __future__ import annotations

ANOMALIES: dict[str, str] = {
    "missing_done": "the stream ends without `[DONE]`, after its finish_reason",
    "missing_finish": "the response is complete, but has no finish_reason",
    "content_type": "the content type is not that of the body",
    "wrong_form": "a whole body in place of a stream, or a stream in place of a whole body",
    "usage": "token counts that are impossible or contradict each other, or are not whole numbers",
    "empty_event": "an event without data, or a ping",
    "unknown_field": "a line of the stream with a field that the protocol does not have",
    "byte_order_mark": "a byte order mark at the beginning",
    "surrogate": "half of a surrogate pair, or a pair that is split over two chunks",
    "not_quite_json": "JSON with NaN or Infinity",
    "unknown_shape": "a field with another type or place than in the API",
    "framing": "Content-Length beside Transfer-Encoding",
}
"""What each anomaly means, by its name."""
