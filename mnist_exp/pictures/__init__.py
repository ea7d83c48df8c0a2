"""Pictures of digits: decode the file, binarize it, preprocess it into MNIST's form."""
