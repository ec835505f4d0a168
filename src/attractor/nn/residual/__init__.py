"""Deep stacks: residual and convolutional networks."""
