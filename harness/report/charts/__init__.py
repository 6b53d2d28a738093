"""Charts of a run as frozen values, without how they are drawn.

`model` has the types, `catalogue` the list. The page, matplotlib and the terminal each draw any
chart.
"""
