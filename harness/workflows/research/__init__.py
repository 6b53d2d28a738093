"""The research workflow: decompose a topic, research its parts in parallel, write a report."""
