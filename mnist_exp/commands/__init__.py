"""The verbs of `python -m mnist_exp`: options in, rooms called, a table out."""
