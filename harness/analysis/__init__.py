"""From records to statistics; nothing in here runs anything."""
