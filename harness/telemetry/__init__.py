"""Records as OpenTelemetry spans, in files and at a collector."""
