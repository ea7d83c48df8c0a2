"""The commands of `python -m mnist_exp`: options in, one call, a table out."""
