"""Any picture to a digit in MNIST's form."""
