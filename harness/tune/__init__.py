"""Finds the best setting with few requests: a twin proposes, paired blocks of trials decide."""
