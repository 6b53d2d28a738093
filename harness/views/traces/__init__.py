"""Records as OpenTelemetry spans: in files of the run directory and, if asked, at a collector."""
