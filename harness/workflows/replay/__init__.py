"""`kind = "replay"`: workflows as they were recorded."""
