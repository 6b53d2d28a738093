"""Charts of a run, as frozen values: what each shows, and none of how it is drawn.

`model` has the types, `catalogue` the list. The page, matplotlib and the terminal each draw any
chart.
"""
