"""Turns recorded traffic into a workload: formats, who waited for whom, files of a replay."""
