"""Charts of a run as frozen values, which the page, matplotlib and the terminal draw."""
