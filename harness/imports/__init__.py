"""Turns recorded traffic into a workload: formats, who waited for whom, and the files of a replay."""
